"""Why a notification went out by a channel, or did not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, text

from service.database import transaction
from service.notifications.channel_messages import claim_due, record_failed, record_refused, record_sent
from service.notifications.digests import release_held
from service.notifications.models import ChannelMessage, NotificationSend
from service.notifications.preferences import put_preference
from service.notifications.providers import Sent
from tests.conftest import Account, MakeUser
from tests.factories.channel_messages import hold, make_due, messages
from tests.factories.inboxes import put_in
from tests.factories.jobs import run_a_job

pytestmark = pytest.mark.usefixtures("in_app")


def traced(client: FlaskClient, user: Account, subject_id: object) -> dict[str, dict[str, Any]]:
    """What the trace of a notification says, by channel."""
    answer = client.get(f"/api/notifications/{subject_id}/trace", headers=user.headers)
    assert answer.status_code == 200, answer.get_json()
    return {each["channel"]: each for each in answer.get_json()["data"]}


def told(client: FlaskClient, user: Account, type_: str = "job_completed") -> str:
    """The id of the newest notification of a type."""
    page = client.get(f"/api/notifications?type={type_}", headers=user.headers).get_json()
    found: str = page["data"][0]["id"]
    return found


def by_mail(client: FlaskClient, user: Account, notification_id: object) -> tuple[str, str | None]:
    """What became of its mail: status and reason."""
    entry = traced(client, user, notification_id)["email"]
    return entry["status"], entry["reason"]


def claim(message_id: UUID) -> Any:
    """Claim a message that is due, as a sender does."""
    while claimed := claim_due(100):
        for each in claimed:
            if each.id == message_id:
                return each
    raise AssertionError("it was not due")


def test_a_mail_of_a_job_that_was_not_sent_says_why(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    muted, unknown = make_user(), make_user()
    put_preference(muted.id, "job_status", "email", {"enabled": False})
    with transaction() as session:
        session.execute(text("UPDATE users SET email = '' WHERE id = :id"), {"id": unknown.id})
    for user, reason in ((muted, "muted"), (unknown, "no_address")):
        run_a_job(app, user)
        assert by_mail(client, user, told(client, user)) == ("suppressed", reason)
        assert by_mail(client, user, told(client, user, "job_started")) == ("skipped", "not_asked")
        entries = traced(client, user, told(client, user))
        assert [entries[each]["reason"] for each in ("whatsapp", "push")] == ["not_asked"] * 2


def test_a_platform_without_mails_says_so_of_what_would_be_mailed(
    app: Flask, client: FlaskClient, make_user: MakeUser, change_settings: Callable[..., None]
) -> None:
    user = make_user()
    change_settings(email_enabled=False)
    run_a_job(app, user)
    assert messages(user) == [], "a row for each would cost what nobody asked for"
    assert by_mail(client, user, told(client, user)) == ("skipped", "channel_off")
    assert by_mail(client, user, told(client, user, "job_started")) == ("skipped", "not_asked")
    # Whoever sends may call it as he likes.
    assert by_mail(client, user, put_in(user, type="job_completed", send_id=put_in(user))) == ("skipped", "not_asked")


def gathered(app: Flask, client: FlaskClient, user: Account) -> tuple[str, UUID]:
    """A notification of a job whose mail went into a digest, and the digest."""
    for _ in range(2):
        run_a_job(app, user)
    assert by_mail(client, user, told(client, user)) == ("held", "digest")
    make_due(user)
    release_held()
    (digest,) = (each for each in messages(user) if each.template == "digest")
    return told(client, user), digest.id


def test_what_went_into_a_digest_is_where_the_digest_is(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    notification_id, digest_id = gathered(app, client, user)
    waiting = traced(client, user, notification_id)["email"]
    assert (waiting["status"], waiting["digestId"]) == ("pending", str(digest_id))
    assert waiting["id"] != str(digest_id)
    record_failed(claim(digest_id), "The server is busy.")
    tried = traced(client, user, notification_id)["email"]
    assert (tried["status"], tried["attempts"], tried["error"]) == ("pending", 1, "The server is busy.")
    assert tried["nextAttemptAt"] > waiting["nextAttemptAt"]
    with transaction() as session:
        session.execute(text("UPDATE channel_messages SET next_attempt_at = now() WHERE id = :id"), {"id": digest_id})
    record_sent(claim(digest_id), Sent("smtp", "<1@example.com>"), "ann@example.com")
    sent = traced(client, user, notification_id)["email"]
    assert {name: sent[name] for name in ("status", "provider", "providerId", "address", "error")} == {
        "status": "sent",
        "provider": "smtp",
        "providerId": "<1@example.com>",
        "address": "a***@example.com",
        "error": None,
    }
    assert sent["sentAt"] is not None
    with transaction() as session:
        session.execute(delete(ChannelMessage).where(ChannelMessage.id == digest_id))
    assert traced(client, user, notification_id)["email"]["status"] == "digested", "what was deleted says nothing"


def test_a_digest_that_was_refused_is_the_end_of_all_in_it(
    app: Flask, client: FlaskClient, make_user: MakeUser
) -> None:
    user = make_user()
    notification_id, digest_id = gathered(app, client, user)
    record_refused(claim(digest_id), "bad_address", "There is no ann@example.com.")
    entry = traced(client, user, notification_id)["email"]
    assert (entry["status"], entry["reason"], entry["error"]) == (
        "failed",
        "bad_address",
        "There is no a***@example.com.",
    )


def test_a_send_counts_what_was_digested_as_what_the_digest_is(client: FlaskClient, make_user: MakeUser) -> None:
    sender = make_user(("sender",))
    with transaction() as session:
        send = NotificationSend(
            organization_id=sender.organization_id,
            sender_id=sender.id,
            type="informational",
            category="releases",
            title="News",
            message="Read them.",
            data={},
            audience={"all": True},
            channels=["email"],
            is_critical=False,
        )
        session.add(send)
        session.flush()
        send_id = send.id
    users = [make_user(organization=sender.organization_id) for _ in range(3)]
    for user in users:
        hold(user, send_id=send_id, template="send", data={})
        hold(user)
    held = hold(sender, due=False, send_id=send_id, template="send", data={})
    while release_held():
        continue

    def seen() -> tuple[str, dict[str, int]]:
        answer = client.get(f"/api/notification-sends/{send_id}", headers=sender.headers).get_json()
        return answer["status"], {name: count for name, count in answer["perChannel"]["email"].items() if count}

    assert seen() == ("sending", {"pending": 3, "held": 1})
    digests = {user.id: each.id for user in users for each in messages(user) if each.template == "digest"}
    # One claim gives back what is due for all of them.
    claimed = {each.id: each for _ in users for each in claim_due(100)}
    record_sent(claimed[digests[users[0].id]], Sent("smtp", "1"))
    record_refused(claimed[digests[users[1].id]], "bad_address", "No.")
    assert seen() == ("sending", {"sent": 1, "failed": 1, "pending": 1, "held": 1})
    record_refused(claimed[digests[users[2].id]], "deactivated", "Gone.", was_sent=False)
    assert seen() == ("completed", {"sent": 1, "failed": 1, "suppressed": 1, "held": 1})

    path = f"/api/notifications/{send_id}/trace"
    whole = client.get(path, headers=sender.headers).get_json()
    by_user = {each["userId"]: each for each in whole["data"]}
    assert {user_id: (each["status"], each["reason"]) for user_id, each in by_user.items()} == {
        str(users[0].id): ("sent", None),
        str(users[1].id): ("failed", "bad_address"),
        str(users[2].id): ("suppressed", "deactivated"),
        str(sender.id): ("held", "quiet_hours"),
    }
    assert {user_id: each["digestId"] for user_id, each in by_user.items()} == {
        **{str(user_id): str(digest_id) for user_id, digest_id in digests.items()},
        str(sender.id): None,
    }
    assert by_user[str(sender.id)]["id"] == str(held[0])
    pages = client.get(f"{path}?limit=2", headers=sender.headers).get_json()
    rest = client.get(f"{path}?limit=2&cursor={pages['pagination']['nextCursor']}", headers=sender.headers).get_json()
    assert pages["data"] + rest["data"] == whole["data"]
