"""The body of `schema-rebuild`: its four steps, what it keeps, how it fails."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg2
import pytest
from flask.testing import FlaskClient

from service.connections.actions import create_connection, delete_connection, update_connection
from service.connections.models import Connection, ConnectionSchema
from service.database import db
from service.ids import new_id
from service.jobs.registry import get_job_type
from tasks.jobs.database.schema_rebuild import schema_rebuild
from tasks.testing import JobRun, run_job
from tests.conftest import Account, MakeUser, Servers
from tests.factories.identities import identity_of

pytestmark = pytest.mark.usefixtures("in_app")


@pytest.fixture
def shop(servers: Servers) -> Iterator[str]:
    """The address of a database with two tables."""
    name = f"shop_{new_id().hex[-12:]}"
    url = servers.postgres.create_database(name)
    run(url, "CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL)")
    run(url, "CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES users)")
    yield url
    servers.postgres.drop_database(name)


def run(url: str, statement: str) -> None:
    """Run a statement in a database."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        connection.cursor().execute(statement)
    finally:
        connection.close()


def attempt(user: Account, connection_id: UUID, *, force: bool = False, **options: Any) -> JobRun:
    """An attempt in this process, however it ends."""
    return run_job(schema_rebuild, {"connectionId": str(connection_id), "force": force}, user_id=user.id, **options)


def rebuild(user: Account, connection_id: UUID, *, force: bool = False) -> JobRun:
    """An attempt that completes."""
    done = attempt(user, connection_id, force=force)
    done.assert_completed()
    return done


def connect(user: Account, url: str) -> UUID:
    """A connection of a user."""
    return create_connection(identity_of(user), name=str(new_id()), url=url).id


def test_the_four_steps_and_what_is_kept(make_user: MakeUser, client: FlaskClient, shop: str) -> None:
    user = make_user()
    connection_id = connect(user, shop)
    done = rebuild(user, connection_id)
    done.assert_progress_grows()
    steps = [report for report in done.progress if "detail" not in report]
    assert [(step["current"], step["total"], step["percentage"], step["message"]) for step in steps] == [
        (1, 4, 25, "Validating connection..."),
        (2, 4, 50, "Fetching schema metadata..."),
        (3, 4, 75, "Processing schema data..."),
        (4, 4, 100, "Schema rebuild completed"),
    ]
    assert done.stages == [step["message"] for step in steps]
    details = [report.get("detail") for report in done.progress if report["percentage"] == 50]
    assert details == [None, "Processing table: orders", "Processing table: users"]
    assert len(done.result.pop("fingerprint")) == 64
    assert done.result == {
        "success": True,
        "totalTables": 2,
        "totalViews": 0,
        "totalColumns": 4,
        "changed": True,
        "schemas": [{"name": "public", "tables": 2, "views": 0, "columns": 4}],
    }
    answer = client.get(f"/api/connections/{connection_id}/schema", headers=user.headers)
    assert answer.status_code == 200
    assert answer.json["jobId"] == str(done.job_id)
    assert answer.json["schema"]["totalTables"] == 2
    shown = client.get(f"/api/connections/{connection_id}", headers=user.headers).json
    assert shown["schemaRebuiltAt"] == answer.json["rebuiltAt"]
    password = shop.split(":")[2].split("@", maxsplit=1)[0]
    assert password not in answer.text + json.dumps(done.progress)


def test_an_unchanged_schema_is_kept_as_it_is(make_user: MakeUser, shop: str) -> None:
    user = make_user()
    connection_id = connect(user, shop)
    rebuild(user, connection_id)
    first = kept(connection_id)
    # Rows are no part of the fingerprint: the next analysis changes nothing that is kept.
    run(shop, "INSERT INTO users SELECT n, 'x' FROM generate_series(1, 500) n")
    run(shop, "ANALYZE users")
    done = rebuild(user, connection_id)
    second = kept(connection_id)
    assert done.result["changed"] is False
    assert second["schema"] == first["schema"]
    assert second["rebuilt_at"] > first["rebuilt_at"]
    assert second["job_id"] == done.job_id
    assert rebuild(user, connection_id, force=True).result["changed"] is False
    users = next(each for each in kept(connection_id)["schema"]["schemas"][0]["tables"] if each["name"] == "users")
    assert users["estimatedRows"] == 500
    run(shop, "ALTER TABLE users ADD COLUMN phone text")
    result = rebuild(user, connection_id).result
    assert result["changed"] is True
    assert kept(connection_id)["fingerprint"] == result["fingerprint"] != first["fingerprint"]


def kept(connection_id: UUID) -> dict[str, Any]:
    """What is kept of a schema."""
    db.session.rollback()
    row = db.session.get_one(ConnectionSchema, connection_id, populate_existing=True)
    return {name: getattr(row, name) for name in ("schema", "fingerprint", "job_id", "rebuilt_at")}


def test_another_database_forgets_the_schema(make_user: MakeUser, shop: str) -> None:
    user = make_user()
    connection_id = connect(user, shop)
    rebuild(user, connection_id)
    update_connection(connection_id, identity_of(user), url=shop.replace("postgresql://", "postgres://"))
    assert kept(connection_id)
    update_connection(connection_id, identity_of(user), url="postgresql://a:b@elsewhere/shop")
    assert db.session.get(ConnectionSchema, connection_id) is None


def test_what_trying_again_does_not_mend(make_user: MakeUser, shop: str) -> None:
    user = make_user()
    password = shop.split(":")[2].split("@", maxsplit=1)[0]
    kind = get_job_type("schema-rebuild")
    assert (kind.retry_limit, kind.retry_delay, kind.retry_strategy) == (3, 60.0, "exponential")
    assert kind.tells_queued
    run(shop, "DO $$ BEGIN CREATE ROLE visitor LOGIN PASSWORD 'visitor'; EXCEPTION WHEN duplicate_object THEN END $$")
    run(shop, f"REVOKE CONNECT ON DATABASE {shop.rpartition('/')[2]} FROM PUBLIC")
    visitor = shop.replace("carillon:", "visitor:").replace(password, "visitor")
    for url, code in (
        (shop.replace(password, "wrong"), "invalid_credentials"),
        (shop + "x", "database_not_found"),
        (visitor, "permission_denied"),
    ):
        refused = attempt(user, connect(user, url))
        refused.assert_failed(code)
        assert password not in str(refused.exception)
    attempt(user, new_id()).assert_failed("connection_not_found")
    attempt(make_user(organization=user.organization_id), connect(user, shop)).assert_failed("not_allowed")


def test_a_database_that_is_away_is_tried_again(make_user: MakeUser) -> None:
    user = make_user()
    away = attempt(user, connect(user, "postgresql://a:hunter2@127.0.0.1:1/x"))
    away.assert_retrying("database_unreachable")
    assert away.retry_in == 60
    assert "hunter2" not in str(away.exception)


@pytest.fixture
def mute() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def dripping() -> Iterator[int]:
    """The port of a server that says one byte of a long greeting every fifth of a second."""
    server = socket.create_server(("127.0.0.1", 0))
    ends = threading.Event()

    def drip(taken: socket.socket) -> None:
        with taken:
            for byte in b"\xff\xff\x00\x00\x0a" + b"5" * 200:
                if ends.wait(0.2):
                    return
                try:
                    taken.sendall(bytes([byte]))
                except OSError:
                    return

    def serve() -> None:
        while True:
            try:
                taken, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=[taken], daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    ends.set()
    server.close()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_mute_server_holds_nobody_for_long(make_user: MakeUser, client: FlaskClient, scheme: str, mute: int) -> None:
    user = make_user()
    connection_id = connect(user, f"{scheme}://a:b@127.0.0.1:{mute}/x")
    began = time.monotonic()
    answer = client.post(f"/api/connections/{connection_id}/test", headers=user.headers)
    assert answer.json["error"]["code"] == "database_unreachable"
    attempt(user, connection_id).assert_retrying("database_unreachable")
    assert time.monotonic() - began < 14


def test_a_dripping_server_holds_nobody_for_long(make_user: MakeUser, client: FlaskClient, dripping: int) -> None:
    user = make_user()
    connection_id = connect(user, f"mysql://a:b@127.0.0.1:{dripping}/x")
    began = time.monotonic()
    answer = client.post(f"/api/connections/{connection_id}/test", headers=user.headers)
    assert answer.json["error"]["code"] == "database_unreachable"
    assert time.monotonic() - began < 8


def test_a_connection_deleted_meanwhile(make_user: MakeUser, shop: str) -> None:
    user = make_user()
    connection_id = connect(user, shop)

    def delete_at_third(report: dict[str, Any]) -> None:
        if report["current"] == 3:
            delete_connection(connection_id, identity_of(user))

    attempt(user, connection_id, on_progress=delete_at_third).assert_failed("connection_not_found")
    assert db.session.get(Connection, connection_id) is None


def test_a_cancel_is_obeyed_between_tables(make_user: MakeUser, shop: str) -> None:
    user = make_user()
    attempt(user, connect(user, shop), cancel_after=3).assert_cancelled()
