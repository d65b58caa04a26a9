"""Preferences: what a user, his tenant and the platform say, and what a message becomes by that."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from service.database import db, fetch_one, transaction
from service.ids import new_id
from service.notifications.models import ChannelMessage
from service.notifications.preferences import MAXIMUM_TYPES, decision, set_preference_of
from tests.conftest import Account, MakeUser

NOON = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
PREFERENCES = "/api/notifications/preferences"
DEFAULTS = "/api/admin/notification-defaults"


def put(client: FlaskClient, user: Account, type_: str, channel: str, **fields: Any) -> Any:
    """Set a preference; the answer."""
    body = {"notificationType": type_, "channel": channel, **fields}
    return client.put(PREFERENCES, json=body, headers=user.headers)


def listed(client: FlaskClient, user: Account) -> list[dict[str, Any]]:
    """All that is listed."""
    rows: list[dict[str, Any]] = client.get(PREFERENCES, headers=user.headers).get_json()["data"]
    return rows


def decide(
    user: Account, type_: str, channel: str, *, is_critical: bool = False, now: datetime = NOON
) -> tuple[str, str | None, str | None, datetime | None]:
    """What becomes of a message: status, reason, digest and when it leaves."""
    asked = decision("%(channel)s", "%(type)s", "%(is_critical)s")
    with transaction():
        row = fetch_one(
            f"SELECT decision.* FROM users AS recipient CROSS JOIN LATERAL ({asked}) AS decision "
            "WHERE recipient.id = %(user_id)s",
            {"user_id": str(user.id), "channel": channel, "type": type_, "is_critical": is_critical, "now": now},
        )
    assert row is not None
    return row["status"], row["reason"], row["digest"], row["next_attempt_at"]


def set_columns(user: Account, **columns: str) -> None:
    """Set columns of the user's row."""
    with transaction() as session:
        for name, value in columns.items():
            session.execute(text(f"UPDATE users SET {name} = :value WHERE id = :id"), {"value": value, "id": user.id})


def test_new_users_have_the_preferences_of_the_table(client: FlaskClient, make_user: MakeUser) -> None:
    rows = listed(client, make_user())
    chosen = [each for each in rows if not each["isInherited"]]
    assert [(each["notificationType"], each["channel"], each["enabled"]) for each in chosen] == [
        ("invitations", "email", True),
        ("invitations", "in_app", True),
        ("job_status", "email", True),
        ("job_status", "in_app", True),
        ("system", "email", False),
        ("system", "in_app", True),
    ]
    assert {(each["digest"], each["isCritical"]) for each in rows} == {("none", False)}


def test_what_else_the_platform_tells_is_listed_and_changed_by_the_same_id(
    client: FlaskClient, make_user: MakeUser
) -> None:
    user, other = make_user(), make_user()
    inherited = [each for each in listed(client, user) if each["isInherited"]]
    assert [(each["notificationType"], each["channel"], each["enabled"]) for each in inherited] == [
        (type_, channel, True) for type_ in ("alerts", "approvals", "webhooks") for channel in ("email", "in_app")
    ]
    mail = inherited[0]
    path = f"{PREFERENCES}/{mail['id']}"
    assert client.patch(path, json={"enabled": False}, headers=other.headers).status_code == 404
    muted = client.patch(path, json={"enabled": False}, headers=user.headers).get_json()
    assert muted == {**mail, "enabled": False, "isInherited": False}
    assert muted in listed(client, user)
    assert len(listed(client, user)) == 12
    # The inbox gathers nothing, whether there is a row or not.
    inbox = f"{PREFERENCES}/{inherited[1]['id']}"
    assert client.patch(inbox, json={"digest": "daily"}, headers=user.headers).status_code == 422
    gathered = client.patch(f"{PREFERENCES}/{inherited[2]['id']}", json={"digest": "daily"}, headers=user.headers)
    assert gathered.get_json() == {**inherited[2], "digest": "daily", "isInherited": False}


def test_what_the_tenant_says_is_listed_until_the_user_says_otherwise(client: FlaskClient, make_user: MakeUser) -> None:
    admin = make_user(("admin",))
    user = make_user(organization=admin.organization_id)
    for type_ in ("releases", "alerts"):
        default = {"notificationType": type_, "channel": "email", "enabled": False}
        assert client.put(DEFAULTS, json=default, headers=admin.headers).status_code == 200
    rows = {(each["notificationType"], each["channel"]): each for each in listed(client, user)}
    for type_ in ("releases", "alerts"):
        assert (rows[type_, "email"]["enabled"], rows[type_, "email"]["isInherited"]) == (False, True)
    path = f"{PREFERENCES}/{rows['releases', 'email']['id']}"
    changed = client.patch(path, json={"enabled": True}, headers=user.headers).get_json()
    assert changed == {**rows["releases", "email"], "enabled": True, "isInherited": False}


def test_a_preference_that_is_made_by_many_at_once_is_one(app: Flask, make_user: MakeUser) -> None:
    user = make_user()

    def make(_: int) -> int:
        return int(put(app.test_client(), user, "webhooks", "email", enabled=False).status_code)

    with ThreadPoolExecutor(8) as many:
        assert set(many.map(make, range(24))) == {200}


def test_a_user_has_preferences_for_a_hundred_types(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    for number in range(MAXIMUM_TYPES - 3):
        assert put(client, user, f"type-{number}", "email", enabled=False).status_code == 200
    refused = put(client, user, "one-more", "email", enabled=False)
    assert (refused.status_code, list(refused.get_json()["errors"])) == (422, ["notificationType"])
    assert put(client, user, "type-0", "push", enabled=False).status_code == 200, "no more types"
    assert put(client, user, "webhooks", "email", enabled=False).status_code == 200, "the platform's own"
    with app.app_context():
        # As the link in a mail does.
        set_preference_of(user.id, "one-more", "email", False)
        assert decide(user, "one-more", "email")[:2] == ("suppressed", "muted")


def test_new_users_have_what_their_tenant_says(client: FlaskClient, make_user: MakeUser) -> None:
    admin = make_user(("admin",))
    default = {"notificationType": "job_status", "channel": "email", "enabled": False}
    assert client.put(DEFAULTS, json=default, headers=admin.headers).status_code == 200
    rows = listed(client, make_user(organization=admin.organization_id))
    muted = [(each["notificationType"], each["channel"]) for each in rows if not each["enabled"]]
    assert muted == [("job_status", "email"), ("system", "email")]


def test_a_preference_is_changed_and_one_for_a_new_type_made(client: FlaskClient, make_user: MakeUser) -> None:
    user, other = make_user(), make_user()
    made = put(client, user, "releases", "email", enabled=True, digest="daily").get_json()
    assert (made["enabled"], made["digest"]) == (True, "daily")
    path = f"{PREFERENCES}/{made['id']}"
    muted = client.patch(path, json={"enabled": False}, headers=user.headers).get_json()
    assert muted == {**made, "enabled": False}, "what was not named stays"
    assert put(client, user, "releases", "email", enabled=True).get_json() == made, "the same row"
    assert client.patch(path, json={"enabled": False}, headers=other.headers).status_code == 404
    for fields in ({"digest": "weekly"}, {"enabled": "maybe"}, {"userId": str(other.id)}):
        assert client.patch(path, json=fields, headers=user.headers).status_code == 422
    assert put(client, user, "releases", "fax", enabled=True).status_code == 422
    assert put(client, user, "releases", "in_app", enabled=True, digest="daily").status_code == 422


def test_what_is_critical_cannot_be_muted(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user, admin = make_user(), make_user(("admin",))
    kept = put(client, user, "security", "email", enabled=True).get_json()
    assert kept["isCritical"] is True
    default = {"notificationType": "security", "channel": "email", "enabled": False}
    for answer in (
        put(client, user, "security", "email", enabled=False),
        client.patch(f"{PREFERENCES}/{kept['id']}", json={"enabled": False}, headers=user.headers),
        client.put(DEFAULTS, json=default, headers=admin.headers),
    ):
        assert (answer.status_code, answer.get_json()["code"]) == (422, "critical_type")


def test_the_user_is_asked_before_the_tenant_and_the_tenant_before_the_platform(
    app: Flask, client: FlaskClient, make_user: MakeUser
) -> None:
    admin = make_user(("admin",))
    user, stranger = make_user(organization=admin.organization_id), make_user()
    default = {"notificationType": "releases", "channel": "email", "enabled": False}
    for body in (default, {}):
        assert client.put(DEFAULTS, json=body, headers=user.headers).status_code == 403
    assert client.put(DEFAULTS, json=default, headers=admin.headers).get_json() == default
    assert client.get(DEFAULTS, headers=admin.headers).get_json() == {"data": [default]}
    with app.app_context():
        assert decide(user, "releases", "email") == ("suppressed", "muted", None, None)
        assert decide(stranger, "releases", "email")[0] == "pending"
        assert decide(user, "system", "email")[1] == "muted", "the platform's own"
        assert decide(user, "releases", "email", is_critical=True)[0] == "pending"
        set_preference_of(user.id, "releases", "email", True)
        assert decide(user, "releases", "email") == ("pending", None, None, NOON)


def test_messages_need_somewhere_to_go(app: Flask, make_user: MakeUser) -> None:
    user = make_user()
    with app.app_context():
        assert decide(user, "releases", "whatsapp", is_critical=True)[:2] == ("suppressed", "no_address")
        assert decide(user, "releases", "push")[:2] == ("suppressed", "no_device")
        assert decide(user, "releases", "in_app")[:2] == ("pending", None)
        set_columns(user, phone="+4930123456")
        assert decide(user, "releases", "whatsapp")[:2] == ("pending", None)


def test_quiet_hours_and_digests_hold_messages_but_nothing_critical_and_no_inbox(
    app: Flask, client: FlaskClient, make_user: MakeUser
) -> None:
    user = make_user()
    client.patch("/api/auth/me", json={"timezone": "Asia/Kolkata"}, headers=user.headers)
    hours = {"start": "22:00", "end": "09:00"}
    assert client.put("/api/notifications/quiet-hours", json=hours, headers=user.headers).status_code == 200
    night = datetime(2026, 3, 10, 18, 0, tzinfo=UTC)  # 23:30 in Kolkata
    morning = datetime(2026, 3, 11, 3, 30, tzinfo=UTC)
    with app.app_context():
        assert decide(user, "job_status", "email") == ("pending", None, None, NOON)
        assert decide(user, "job_status", "email", now=night) == ("held", "quiet_hours", None, morning)
        assert decide(user, "job_status", "email", now=night, is_critical=True) == ("pending", None, None, night)
        assert decide(user, "job_status", "in_app", now=night) == ("pending", None, None, night)
        put(client, user, "job_status", "email", enabled=True, digest="hourly")
        # 18:00 in Kolkata: its next full hour is half past in UTC.
        assert decide(user, "job_status", "email") == ("held", "digest", "hourly", NOON + timedelta(hours=1))
        put(client, user, "job_status", "email", enabled=True, digest="daily")
        # 08:00 there lies in the quiet hours.
        assert decide(user, "job_status", "email") == ("held", "digest", "daily", morning)
        assert decide(user, "job_status", "email", is_critical=True) == ("pending", None, None, NOON)


@pytest.mark.parametrize("by_link", [True, False])
def test_what_waits_for_its_hour_is_not_sent_once_it_is_muted(
    app: Flask, client: FlaskClient, make_user: MakeUser, by_link: bool
) -> None:
    user = make_user()
    held: dict[str, UUID] = {type_: new_id() for type_ in ("job_status", "releases")}
    with app.app_context():
        with transaction() as session:
            for type_, id_ in held.items():
                message = ChannelMessage(id=id_, user_id=user.id, channel="email", template="digest", data={})
                message.status, message.reason, message.notification_type = "held", "digest", type_
                session.add(message)
        if by_link:
            set_preference_of(user.id, "job_status", "email", False)
        else:
            put(client, user, "job_status", "email", enabled=False)
        rows = {each: db.session.get_one(ChannelMessage, id_) for each, id_ in held.items()}
        assert (rows["job_status"].status, rows["job_status"].reason) == ("suppressed", "muted")
        assert rows["releases"].status == "held"
