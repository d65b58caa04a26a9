"""What the tests of accounts share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse

from service.database import db, transaction

Post = Callable[..., TestResponse]


@pytest.fixture
def post(client: FlaskClient) -> Post:
    """Posts JSON below `/api/auth/`."""

    def send(path: str, **body: Any) -> TestResponse:
        # ASCII, so that half characters travel as JSON can write them.
        return client.post(f"/api/auth/{path}", data=json.dumps(body), content_type="application/json")

    return send


@pytest.fixture
def change_settings(app: Flask) -> Iterator[Callable[..., None]]:
    """Gives the application other settings for the length of the test."""
    before = app.extensions["carillon_settings"]

    def change(**values: Any) -> None:
        app.extensions["carillon_settings"] = replace(app.extensions["carillon_settings"], **values)

    yield change
    app.extensions["carillon_settings"] = before


@pytest.fixture
def sql(app: Flask) -> Callable[..., list[Any]]:
    """Runs one statement and gives its rows."""

    def run(statement: str, **parameters: Any) -> list[Any]:
        with app.app_context(), transaction():
            result = db.session.execute(text(statement), parameters)
            return list(result.mappings()) if result.returns_rows else []

    return run


def at_once(count: int, call: Callable[[], Any]) -> list[Any]:
    """The results of calls that began together."""
    barrier = Barrier(count)

    def run(_: int) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


@pytest.fixture(name="at_once")
def _at_once() -> Callable[[int, Callable[[], Any]], list[Any]]:
    return at_once
