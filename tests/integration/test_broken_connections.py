"""Connections that break between two requests: what was accepted is answered so."""

from __future__ import annotations

import psycopg2
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from service.database import db, fetch_all, transaction
from service.queue import celery_app, depth
from tests.conftest import MakeUser, Servers
from tests.factories.jobs import send_held


def test_a_connection_that_breaks_after_the_last_read_spoils_no_answer(app: Flask, servers: Servers) -> None:
    with app.app_context():
        pid = db.session.execute(text("SELECT pg_backend_pid()")).scalar_one()
        connection = psycopg2.connect(servers.postgres.url)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", (pid,))
        connection.close()
    with app.app_context():
        assert db.session.execute(text("SELECT 1")).scalar_one() == 1


def test_a_job_is_sent_at_once_though_the_broker_has_closed_the_connection(
    app: Flask, client: FlaskClient, make_user: MakeUser
) -> None:
    user = make_user()
    body = {"type": "demo-steps", "payload": {"steps": 1}}
    with app.app_context():
        send_held()
    assert client.post("/api/jobs", json=body, headers=user.headers).status_code == 202
    before = depth("default")
    with celery_app.connection_for_write() as connection:
        # As a restart does to all of them.
        connection.default_channel.client.client_kill_filter(_type="normal", skipme=True)
    assert client.post("/api/jobs", json=body, headers=user.headers).status_code == 202
    assert depth("default") == before + 1


def test_a_server_that_was_restarted_fails_one_statement_and_not_one_for_each_connection(
    app: Flask, servers: Servers
) -> None:
    with app.app_context():
        engine = db.engine
        # As many at once, so that the pool has them.
        held = [engine.connect() for _ in range(5)]
        pids = [each.execute(text("SELECT pg_backend_pid()")).scalar_one() for each in held]
        for each in held:
            each.close()
        other = psycopg2.connect(servers.postgres.url)
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", (pids,))
        other.close()
        failures = 0
        for _ in range(5):
            try:
                with transaction():
                    fetch_all("SELECT 1", {})
            except DBAPIError:
                failures += 1
        assert failures <= 1
