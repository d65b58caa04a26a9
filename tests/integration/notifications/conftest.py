"""What the tests of notifications share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from devstack.ports import free_port
from service.database import db, transaction
from tasks.testing import JobRun
from tests.conftest import Account, MakeUser
from tests.factories.sends import NEWS, Mailbox, Sql, run_attempt


@pytest.fixture
def change_settings(app: Flask) -> Iterator[Callable[..., None]]:
    """Gives the application other settings for the length of the test."""
    before = app.extensions["carillon_settings"]

    def change(**values: Any) -> None:
        app.extensions["carillon_settings"] = replace(app.extensions["carillon_settings"], **values)

    yield change
    app.extensions["carillon_settings"] = before


@pytest.fixture
def sql(app: Flask) -> Sql:
    """Runs one statement and gives its rows."""

    def run(statement: str, **parameters: Any) -> list[Any]:
        with app.app_context(), transaction():
            result = db.session.execute(text(statement), parameters)
            return list(result.mappings()) if result.returns_rows else []

    return run


@pytest.fixture
def mailbox(change_settings: Callable[..., None]) -> Iterator[Mailbox]:
    """A mail server that the application uses."""
    box = Mailbox()
    server = Controller(box, hostname="127.0.0.1", port=free_port())
    server.start()
    change_settings(smtp_url=f"smtp://127.0.0.1:{server.port}")
    yield box
    server.stop()


@pytest.fixture
def post(client: FlaskClient) -> Callable[..., Any]:
    """Sends a notification and gives the answer."""

    def send(sender: Account, *, key: str | None = None, **fields: Any) -> Any:
        headers = {**sender.headers, **({"Idempotency-Key": key} if key else {})}
        return client.post("/api/notifications", json={**NEWS, **fields}, headers=headers)

    return send


QUEUED = "SELECT id FROM jobs WHERE tags @> ARRAY[:tag] AND status = 'queued' ORDER BY id"


@pytest.fixture
def work(app: Flask, sql: Sql) -> Callable[[str], list[JobRun]]:
    """Runs the jobs of a send as a worker does, with those that come of them, until none is queued."""

    def run(send_id: str) -> list[JobRun]:
        runs = []
        with app.app_context():
            while rows := sql(QUEUED, tag=f"send:{send_id}"):
                for row in rows:
                    runs.append(run_attempt(row["id"]))
                    assert runs[-1].status == "completed", runs[-1].story()
        return runs

    return run


@pytest.fixture
def crowd(make_user: MakeUser, sql: Sql) -> Account:
    """A sender in a tenant with 50 other users."""
    sender = make_user(("sender",))
    sql(
        """INSERT INTO users (id, organization_id, username, email, password_hash, roles, timezone, is_active,
            created_at, updated_at)
        SELECT gen_random_uuid(), :tenant, name, name || '@example.com', '', '{user}', 'UTC', true, now(), now()
        FROM (SELECT 'c' || replace(gen_random_uuid()::text, '-', '') AS name FROM generate_series(1, 50)) AS made""",
        tenant=sender.organization_id,
    )
    return sender
