"""The audit log, as administrators read it."""

from __future__ import annotations

import pytest
from flask import Flask

from service.audit.actions import record


@pytest.fixture
def admin(make_user):
    """An administrator of an organization of his own."""
    return make_user(("admin",))


@pytest.fixture
def entries(client, admin):
    """What the administrator reads with a query."""

    def read(query=""):
        answer = client.get(f"/api/admin/audit-log?{query}", headers=admin.headers)
        assert answer.status_code == 200, answer.text
        return answer.json

    return read


def log_in(client, user, password=None):
    headers = {"User-Agent": "a browser", "X-Request-ID": "request-1"}
    body = {"username": user.username, "password": password or user.password}
    return client.post("/api/auth/login", json=body, headers=headers)


def test_acts_are_listed_newest_first(client, admin, entries):
    log_in(client, admin, "a wrong password")
    log_in(client, admin)
    answer = entries()
    assert [entry["action"] for entry in answer["data"]] == ["auth.login", "auth.login_failed"]
    assert answer["pagination"] == {"page": 1, "limit": 20, "total": 2, "totalPages": 1, "nextCursor": None}
    success, failure = answer["data"]
    assert success["actorId"] == success["targetId"] == failure["targetId"] == str(admin.id)
    assert success["actorUsername"] == admin.username
    assert (failure["actorId"], failure["actorUsername"]) == (None, None)
    assert (success["ip"], success["userAgent"], success["requestId"]) == ("127.0.0.1", "a browser", "request-1")
    assert success["createdAt"].endswith("Z")


def test_no_secret_is_in_it(client, admin, entries):
    session = log_in(client, admin, "a wrong password") and log_in(client, admin).json
    renewed = client.post("/api/auth/refresh", json={"refreshToken": session["refreshToken"]}).json
    client.post("/api/auth/refresh", json={"refreshToken": session["refreshToken"]})
    client.post("/api/auth/logout", json={"refreshToken": renewed["refreshToken"]})
    client.patch("/api/auth/me", json={"phone": "+4915112345678"}, headers=admin.headers)
    text = str(entries("limit=100"))
    secrets = (
        session["accessToken"],
        session["refreshToken"],
        renewed["refreshToken"],
        admin.password,
        "wrong",
        "argon2",
    )
    assert [secret for secret in (*secrets, "+49151") if secret in text] == []
    assert "auth.refresh_reused" in text


def test_filters(app: Flask, admin, entries):
    with app.app_context():
        for number in range(3):
            record("thing.made", "thing", number, actor_id=admin.id, organization_id=admin.organization_id)
        record("other.made", "other", 1, organization_id=admin.organization_id)

    def found(query):
        return [(entry["action"], entry["targetId"]) for entry in entries(query)["data"]]

    assert found("action=thing.made") == [("thing.made", "2"), ("thing.made", "1"), ("thing.made", "0")]
    assert found("targetType=other") == [("other.made", "1")]
    assert found("targetId=1") == [("other.made", "1"), ("thing.made", "1")]
    assert len(found(f"actorId={admin.id}")) == 3
    assert found("since=2000-01-01T00:00:00Z&until=2001-01-01T00:00:00Z") == []
    assert found("until=1900-01-01T00:00:00Z") == []
    assert len(found("since=1900-01-01T00:00:00Z")) == 4
    assert len(found("until=9999-01-01T00:00:00Z")) == 4
    page = entries("limit=3&page=2")
    assert (len(page["data"]), page["pagination"]["totalPages"]) == (1, 2)


@pytest.mark.parametrize(
    "query", ["actorId=me", "since=yesterday", "since=2026-01-01T00:00:00", "action=%00", "limit=101"]
)
def test_filters_that_make_no_sense(client, admin, query):
    assert client.get(f"/api/admin/audit-log?{query}", headers=admin.headers).status_code == 422


def test_other_tenants_acts_are_not_seen(app, make_user, client, entries):
    stranger = make_user(("admin",))
    log_in(client, stranger)
    assert entries() == {
        "data": [],
        "pagination": {"page": 1, "limit": 20, "total": 0, "totalPages": 0, "nextCursor": None},
    }
    assert entries(f"actorId={stranger.id}")["data"] == []


@pytest.mark.parametrize("roles", [("user",), ("operator",)])
def test_only_administrators_read_it(client, make_user, roles):
    assert client.get("/api/admin/audit-log", headers=make_user(roles).headers).status_code == 403
    assert client.get("/api/admin/audit-log").status_code == 401
