"""One's own account."""

from __future__ import annotations

import pytest


@pytest.fixture
def change(client, make_user):
    """A user, and what changes him."""
    user = make_user()

    def send(**body):
        return client.patch("/api/auth/me", json=body, headers=user.headers)

    send.user = user
    return send


def test_fields_change_and_stay(client, change):
    name = change.user.username
    answer = change(email=f"New.{name}@Example.COM", phone="+4915112345678", timezone="Europe/Berlin")
    assert answer.status_code == 200
    assert answer.json["email"] == f"new.{name}@example.com"
    assert answer.json["phone"] == "+4915112345678"
    assert answer.json["timezone"] == "Europe/Berlin"
    assert client.get("/api/auth/me", headers=change.user.headers).json == answer.json
    assert change(phone=None).json["phone"] is None
    assert change().json["timezone"] == "Europe/Berlin"


def test_the_legacy_webhook_url_is_an_endpoint(client, change):
    assert change(webhookUrl="http://127.0.0.1:9/hook").json["webhookUrl"] == "http://127.0.0.1:9/hook"
    endpoints = client.get("/api/webhooks", headers=change.user.headers).json["data"]
    assert [endpoint["url"] for endpoint in endpoints] == ["http://127.0.0.1:9/hook"]
    assert change(webhookUrl=None).json["webhookUrl"] is None
    assert client.get("/api/webhooks", headers=change.user.headers).json["data"] == []


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "file:///etc/passwd", "nonsense", "", "http://[::1]/"])
def test_a_webhook_url_that_must_not_be_reached(change, url):
    answer = change(webhookUrl=url, timezone="Europe/Berlin")
    assert (answer.status_code, list(answer.json["errors"])) == (422, ["webhookUrl"])
    assert change().json["timezone"] == "UTC"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "nobody"),
        ("email", None),
        ("phone", "0151 12345678"),
        ("phone", "+49151123456789012"),
        ("phone", "+4915112345678\n"),
        ("timezone", "Mars/Olympus"),
        ("timezone", "../../etc/passwd"),
        ("timezone", "Europe"),
        ("timezone", ""),
        ("timezone", None),
        ("roles", ["admin"]),
        ("organizationId", "0"),
        ("username", "another"),
        ("password", "another password"),
        ("isActive", False),
        ("passwordHash", "x"),
    ],
)
def test_what_cannot_be_changed_so(change, field, value):
    answer = change(**{field: value})
    assert (answer.status_code, list(answer.json["errors"])) == (422, [field])


def test_the_address_of_another_is_taken(change, make_user):
    answer = change(email=f"{make_user().username}@example.com")
    assert (answer.status_code, answer.json["code"]) == (409, "email_taken")


def test_a_deactivated_user_has_no_account(client, change, sql):
    sql("UPDATE users SET is_active = false WHERE id = :id", id=change.user.id)
    assert client.get("/api/auth/me", headers=change.user.headers).status_code == 401
    assert change(timezone="UTC").status_code == 401
