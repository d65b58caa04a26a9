"""Registration: what is taken, what is refused, what nobody can give himself."""

from __future__ import annotations

from typing import Any

import pytest

from service.ids import new_id


def somebody(**changes: Any) -> dict[str, Any]:
    name = f"reg{new_id().hex[-12:]}"
    return {"username": name, "email": f"{name}@example.com", "password": "correct horse battery"} | changes


def test_a_new_user_is_an_ordinary_one_of_the_default_organization(post, sql):
    person = somebody(username=f"Ann.{new_id().hex[-8:]}")
    answer = post("register", **person)
    assert answer.status_code == 201
    user = answer.json
    assert user["username"] == person["username"]
    assert user["email"] == person["email"]
    assert user["roles"] == ["user"]
    assert user["timezone"] == "UTC"
    assert user["isActive"] is True
    assert user["webhookUrl"] is None
    assert "password" not in answer.text
    assert "argon2" not in answer.text
    tenant = sql("SELECT name FROM organizations WHERE id = :id", id=user["organizationId"])
    assert tenant[0]["name"] == "default"


def test_a_new_user_has_the_default_preferences(post, sql):
    user = post("register", **somebody()).json
    rows = sql(
        "SELECT notification_type, channel, enabled FROM notification_preferences WHERE user_id = :id", id=user["id"]
    )
    assert {(row["notification_type"], row["channel"], row["enabled"]) for row in rows} == {
        ("job_status", "in_app", True),
        ("job_status", "email", True),
        ("invitations", "in_app", True),
        ("invitations", "email", True),
        ("system", "in_app", True),
        ("system", "email", False),
    }


def test_the_password_is_kept_as_an_argon2id_hash(post, sql):
    user = post("register", **somebody()).json
    assert sql("SELECT password_hash FROM users WHERE id = :id", id=user["id"])[0]["password_hash"].startswith(
        "$argon2id$"
    )


@pytest.mark.parametrize("field", ["roles", "organizationId", "organization_id", "isActive", "is_active", "id"])
def test_nobody_gives_himself_more_than_the_form_asks(post, field):
    answer = post("register", **somebody(**{field: ["admin"]}))
    assert answer.status_code == 422
    assert answer.json["code"] == "validation_failed"
    assert list(answer.json["errors"]) == [field]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", "ab"),
        ("username", "a" * 65),
        ("username", "white space"),
        ("username", "line\n"),
        ("username", "jürgen"),
        ("username", "ab@cd"),
        ("username", "nul\x00"),
        ("username", 123),
        ("username", None),
        ("email", "nobody"),
        ("email", "a@b@c"),
        ("email", "two\nlines@example.com"),
        ("email", "half\ud800@example.com"),
        ("email", "a" * 250 + "@example.com"),
        ("password", "ninechars"),
        ("password", "x" * 257),
        ("password", "half a character \ud800"),
        ("password", "nul in the middle\x00of it"),
        ("password", ["a", "b"]),
    ],
)
def test_bad_fields_are_named(post, field, value):
    answer = post("register", **somebody(**{field: value}))
    assert answer.status_code == 422
    assert answer.json["status"] == 422
    assert answer.json["requestId"]
    # NUL is refused for all bodies before any field is looked at.
    assert list(answer.json.get("errors", [field])) == [field]


@pytest.mark.parametrize("missing", ["username", "email", "password"])
def test_every_field_is_needed(post, missing):
    person = somebody()
    del person[missing]
    answer = post("register", **person)
    assert (answer.status_code, list(answer.json["errors"])) == (422, [missing])


def test_the_password_must_differ_from_the_name(post):
    answer = post("register", **somebody(username="LongEnoughName", password="longenoughname"))
    assert (answer.status_code, list(answer.json["errors"])) == (422, ["password"])


def test_a_name_is_taken_whatever_its_capitals(post):
    person = somebody()
    assert post("register", **person).status_code == 201
    answer = post("register", **somebody(username=person["username"].upper()))
    assert (answer.status_code, answer.json["code"]) == (409, "username_taken")


def test_an_address_is_taken_whatever_its_capitals(post):
    person = somebody()
    assert post("register", **person).json["email"] == person["email"]
    answer = post("register", **somebody(email=person["email"].upper()))
    assert (answer.status_code, answer.json["code"]) == (409, "email_taken")


def test_of_several_who_want_a_name_at_once_one_gets_it(app, at_once):
    name = somebody()["username"]

    def register() -> int:
        answer = app.test_client().post("/api/auth/register", json=somebody(username=name))
        return answer.status_code

    assert sorted(at_once(4, register)) == [201, 409, 409, 409]


def test_registration_can_be_closed(post, change_settings):
    change_settings(registration_open=False)
    answer = post("register", **somebody())
    assert (answer.status_code, answer.json["code"]) == (403, "registration_closed")
