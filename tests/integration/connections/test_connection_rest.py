"""`/api/connections`: who may do what, and that no password ever shows."""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, text

from service.audit.models import AuditEntry
from service.connections.models import Connection
from service.connections.queries import endpoint_of
from service.database import db
from service.ids import new_id
from service.jobs.models import Job
from service.settings import current_settings
from tests.conftest import Account, MakeUser, Servers

SECRET = "s3cret-0f-a-connection"
URL = f"postgresql://reader:{SECRET}@db.example.com:5433/shop?sslmode=require"


def make(client: FlaskClient, user: Account, name: str = "Shop", url: str = URL) -> dict[str, Any]:
    """A registered connection of a user."""
    answer = client.post("/api/connections", json={"name": name, "url": url}, headers=user.headers)
    assert answer.status_code == 201, answer.json
    body: dict[str, Any] = answer.json
    assert answer.headers["Location"] == f"/api/connections/{body['id']}"
    return body


def test_the_url_is_kept_encrypted_and_never_shown(
    app: Flask, client: FlaskClient, make_user: MakeUser, caplog: pytest.LogCaptureFixture
) -> None:
    user = make_user()
    with caplog.at_level(logging.DEBUG):
        made = make(client, user)
        shown = client.get(f"/api/connections/{made['id']}", headers=user.headers)
        listed = client.get("/api/connections", headers=user.headers)
    assert made == shown.json == listed.json["data"][0]
    assert made.pop("createdAt").endswith("Z") and made.pop("updatedAt").endswith("Z")
    assert made == {
        "id": made["id"],
        "userId": str(user.id),
        "name": "Shop",
        "engine": "postgresql",
        "host": "db.example.com",
        "port": 5433,
        "database": "shop",
        "username": "reader",
        "schemaRebuiltAt": None,
    }
    for answer in (shown, listed):
        assert SECRET not in answer.text
    assert SECRET not in caplog.text
    with app.app_context():
        raw = db.session.execute(text("SELECT url FROM connections WHERE id = :id"), {"id": made["id"]}).scalar_one()
        assert SECRET.encode() not in bytes(raw) and b"db.example.com" not in bytes(raw)
        connection = db.session.get_one(Connection, UUID(made["id"]))
        assert endpoint_of(connection).password == SECRET
        entries = db.session.scalars(select(AuditEntry).where(AuditEntry.target_id == made["id"])).all()
        assert [entry.action for entry in entries] == ["connection.create"]
        assert SECRET not in json.dumps(entries[0].details)


def test_a_connection_is_changed_and_forgotten(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    address = f"/api/connections/{make(client, user)['id']}"
    answer = client.patch(address, json={"name": "Store"}, headers=user.headers)
    assert (answer.status_code, answer.json["name"], answer.json["host"]) == (200, "Store", "db.example.com")
    answer = client.patch(address, json={"url": "mysql://root@other/"}, headers=user.headers)
    assert (answer.json["engine"], answer.json["host"], answer.json["database"]) == ("mysql", "other", None)
    assert client.delete(address, headers=user.headers).status_code == 204
    assert client.get(address, headers=user.headers).status_code == 404


def test_a_name_is_taken_once_per_user(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    make(client, user)
    other = make(client, user, "Other")
    answer = client.post("/api/connections", json={"name": "Shop", "url": URL}, headers=user.headers)
    assert (answer.status_code, answer.json["code"]) == (409, "connection_name_taken")
    answer = client.patch(f"/api/connections/{other['id']}", json={"name": "Shop"}, headers=user.headers)
    assert answer.status_code == 409
    make(client, make_user())


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {"name": "", "url": URL},
        {"name": "  ", "url": URL},
        {"name": "x" * 201, "url": URL},
        {"name": "x", "url": f"postgresql://reader:{SECRET}@/shop"},
        {"name": "x", "url": f"oracle://reader:{SECRET}@db/shop"},
        {"name": "x", "url": f"{URL}&options=-c%20x=y"},
        {"name": "x", "url": "sqlite:////etc/passwd"},
        {"name": "x", "url": URL, "userId": str(new_id())},
        {"name": "x", "url": URL, "organizationId": str(new_id())},
    ],
)
def test_fields_that_are_not_valid(client: FlaskClient, make_user: MakeUser, body: dict[str, Any]) -> None:
    answer = client.post("/api/connections", json=body, headers=make_user().headers)
    assert (answer.status_code, answer.json["code"]) == (422, "validation_failed")
    assert SECRET not in answer.text


CALLS = [
    ("GET", "", None),
    ("GET", "/schema", None),
    ("PATCH", "", {"name": "Mine"}),
    ("DELETE", "", None),
    ("POST", "/test", None),
    ("POST", "/rebuild", {"force": True}),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_a_connection_is_its_owners(
    client: FlaskClient, make_user: MakeUser, method: str, path: str, body: dict[str, Any] | None
) -> None:
    owner = make_user()
    address = f"/api/connections/{make(client, owner)['id']}{path}"
    colleague = make_user(organization=owner.organization_id)
    operator = make_user(("operator",), organization=owner.organization_id)
    stranger = make_user(("admin",))
    assert client.open(address, method=method, json=body).status_code == 401
    answer = client.open(address, method=method, json=body, headers=stranger.headers)
    assert (answer.status_code, answer.json["code"]) == (404, "connection_not_found")
    assert client.open(address, method=method, json=body, headers=colleague.headers).status_code == 403
    answer = client.open(address, method=method, json=body, headers=operator.headers)
    if method == "GET":
        expected = "schema_not_found" if path else None
        assert (answer.status_code, answer.json.get("code")) == (404 if path else 200, expected)
    else:
        assert answer.status_code == 403


def test_lists_show_ones_own_and_to_operators_the_tenants(client: FlaskClient, make_user: MakeUser) -> None:
    owner = make_user()
    make(client, owner, "b")
    make(client, owner, "a")
    operator = make_user(("operator",), organization=owner.organization_id)
    page = client.get("/api/connections?limit=1&page=2", headers=owner.headers).json
    assert [each["name"] for each in page["data"]] == ["b"]
    assert page["pagination"] == {"page": 2, "limit": 1, "total": 2, "totalPages": 2}
    assert len(client.get("/api/connections", headers=operator.headers).json["data"]) == 2
    assert client.get("/api/connections", headers=make_user().headers).json["data"] == []


def test_a_rebuild_is_a_job_of_the_owner(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    made = make(client, user)
    for body in ({"force": True}, {}, None):
        answer = client.post(f"/api/connections/{made['id']}/rebuild", json=body, headers=user.headers)
        assert answer.status_code == 202, answer.json
        assert answer.json["message"] == "Schema rebuild job queued"
        assert answer.headers["Location"] == f"/api/jobs/{answer.json['jobId']}"
        with app.app_context():
            job = db.session.get_one(Job, UUID(answer.json["jobId"]))
            assert (job.type, job.user_id, job.retry_limit, job.retry_delay) == ("schema-rebuild", user.id, 3, 60.0)
            assert job.payload == {"connectionId": made["id"], "force": bool(body)}


def test_a_rebuild_may_be_submitted_as_any_job(client: FlaskClient, make_user: MakeUser) -> None:
    user, stranger = make_user(), make_user()
    made = make(client, user)

    def submit(who: Account, **payload: Any) -> tuple[int, str]:
        body = {"type": "schema-rebuild", "payload": {"connectionId": made["id"], **payload}}
        answer = client.post("/api/jobs", json=body, headers=who.headers)
        return answer.status_code, answer.json.get("code", "")

    assert submit(user) == (202, "")
    assert submit(user, userId=str(user.id), force=True) == (202, "")
    assert submit(user, userId=str(stranger.id)) == (422, "validation_failed")
    assert submit(user, connectionId="nonsense") == (422, "validation_failed")
    assert submit(stranger) == (404, "connection_not_found")
    assert submit(make_user(organization=user.organization_id)) == (403, "not_allowed")


def test_a_trial_of_a_real_server(client: FlaskClient, make_user: MakeUser, servers: Servers) -> None:
    user = make_user()
    url = servers.postgres.url

    def attempt(name: str, url: str) -> dict[str, Any]:
        made = make(client, user, name, url)
        answer = client.post(f"/api/connections/{made['id']}/test", headers=user.headers)
        assert answer.status_code == 200
        body: dict[str, Any] = answer.json
        return body

    good = attempt("good", url)
    assert good["ok"] is True
    assert good["serverVersion"].split(".")[0].isdigit()
    assert 0 < good["latencyMs"] < 5000
    password = url.split(":")[2].split("@")[0]
    wrong = attempt("wrong password", url.replace(password, "wr0ng-passw0rd"))
    assert wrong["error"]["code"] == "invalid_credentials"
    assert "wr0ng-passw0rd" not in json.dumps(wrong)
    assert attempt("no database", url + "_nothing")["error"]["code"] == "database_not_found"
    assert attempt("tls", url + "?sslmode=require")["error"]["code"] == "tls_failed"
    nobody = attempt("nobody there", "postgresql://a:b@127.0.0.1:1/x")
    assert nobody["error"] == {"code": "database_unreachable", "message": "The database cannot be reached."}
    assert attempt("mysql", "mysql://a:b@127.0.0.1:1/x")["error"]["code"] == "database_unreachable"
    assert attempt("options in the name", url + "%20options='-c%20x=y'")["error"]["code"] == "database_not_found"


def test_a_trial_of_a_file(app: Flask, client: FlaskClient, make_user: MakeUser, tmp_path: Path) -> None:
    user = make_user()
    with app.app_context():
        root = current_settings().connection_sqlite_roots[0]
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{new_id()}.db"
    made = make(client, user, "file", f"sqlite:///{path}")
    address = f"/api/connections/{made['id']}/test"
    assert client.post(address, headers=user.headers).json["error"]["code"] == "database_not_found"
    assert not path.exists()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE x (y)")
        connection.commit()
    assert client.post(address, headers=user.headers).json["ok"] is True
    # A link that was put there after the connection was registered.
    path.unlink()
    (tmp_path / "outside.db").touch()
    path.symlink_to(tmp_path / "outside.db")
    assert client.post(address, headers=user.headers).json["error"]["code"] == "address_refused"


def test_a_url_whose_key_is_gone(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    made = make(client, user)
    with app.app_context():
        connection = db.session.get_one(Connection, UUID(made["id"]))
        connection.url = b"gAAAAA-of-another-key"
        db.session.commit()
    address = f"/api/connections/{made['id']}"
    shown = client.get(address, headers=user.headers)
    assert (shown.status_code, shown.json["engine"], shown.json["host"]) == (200, None, None)
    assert client.post(f"{address}/test", headers=user.headers).json["error"]["code"] == "connection_unreadable"
    assert client.patch(address, json={"url": URL}, headers=user.headers).json["host"] == "db.example.com"
