"""What the platform itself tells: webhooks in trouble and settled approvals, to who wants to hear of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from devstack.mail_catcher import MailCatcher
from service.clock import utcnow
from service.database import transaction
from service.events import WebhookDisabled, WebhookFailing, publish
from service.ids import new_id
from service.notifications.channel_messages import SEND_TASK, send_due_messages
from service.notifications.digests import release_held
from service.notifications.models import ChannelMessage
from service.notifications.preferences import put_default, put_preference
from service.notifications.providers import smtp_connections
from service.queue import fall_asleep
from service.realtime.models import UntoldEvent
from tests.conftest import Account, MakeUser
from tests.factories.channel_messages import make_due, messages
from tests.factories.inboxes import ask_for_approval

pytestmark = pytest.mark.usefixtures("in_app")


@pytest.fixture
def server(tmp_path: Path, change_settings: Callable[..., None]) -> Iterator[MailCatcher]:
    """The mail server that the application uses."""
    with MailCatcher(tmp_path) as catcher:
        change_settings(smtp_url=catcher.smtp_url)
        yield catcher
        smtp_connections.CONNECTIONS.clear()


def fails(user: Account, event_type: type[WebhookFailing | WebhookDisabled] = WebhookFailing) -> None:
    """An endpoint of a user is in trouble."""
    webhook = {
        "id": new_id(),
        "organization_id": user.organization_id,
        "user_id": user.id,
        "url": "https://example.com/hook",
        "failures": 50,
        "disabled_reason": "failing",
    }
    with transaction():
        publish(event_type(webhook))


def inbox(client: FlaskClient, user: Account) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = client.get("/api/notifications", headers=user.headers).get_json()["data"]
    return data


def mails_to(server: MailCatcher, user: Account) -> list[EmailMessage]:
    """What has come to a user's address."""
    while send_due_messages():
        continue
    return [mail for mail in server.mails if str(mail["To"]) == f"{user.username}@example.com"]


def became(user: Account) -> list[tuple[str, str | None]]:
    """What became of the mails to a user."""
    return [(each.status, each.reason) for each in messages(user)]


def test_news_of_a_webhook_come_with_a_way_to_be_rid_of_them(
    client: FlaskClient, make_user: MakeUser, server: MailCatcher
) -> None:
    user = make_user()
    fails(user)
    (mail,) = mails_to(server, user)
    assert str(mail["Subject"]) == "A webhook keeps failing"
    (notification,) = inbox(client, user)
    assert (notification["type"], notification["category"]) == ("webhook_failing", "system")
    trace = client.get(f"/api/notifications/{notification['id']}/trace", headers=user.headers).get_json()["data"]
    assert [(each["channel"], each["status"], each["provider"]) for each in trace[:2]] == [
        ("in_app", "delivered", None),
        ("email", "sent", "smtp"),
    ]

    assert str(mail["List-Unsubscribe-Post"]) == "List-Unsubscribe=One-Click"
    link = urlsplit(str(mail["List-Unsubscribe"]).strip("<>"))
    assert client.post(f"{link.path}?{link.query}").status_code == 200
    fails(user, WebhookDisabled)
    assert len(mails_to(server, user)) == 1
    newest = inbox(client, user)[0]
    assert newest["type"] == "webhook_disabled", "the inbox was not muted"
    trace = client.get(f"/api/notifications/{newest['id']}/trace", headers=user.headers).get_json()["data"]
    assert (trace[1]["status"], trace[1]["reason"]) == ("suppressed", "muted")


def test_they_wait_for_the_end_of_quiet_hours_and_for_digests(
    client: FlaskClient, make_user: MakeUser, server: MailCatcher
) -> None:
    quiet, patient = make_user(), make_user()
    now = utcnow()
    hours = {"start": f"{now - timedelta(hours=1):%H:00}", "end": f"{now + timedelta(hours=2):%H:00}"}
    assert client.put("/api/notifications/quiet-hours", json=hours, headers=quiet.headers).status_code == 200
    put_preference(patient.id, "webhooks", "email", {"enabled": True, "digest": "daily"})
    for user, reason in ((quiet, "quiet_hours"), (patient, "digest")):
        fails(user)
        fails(user, WebhookDisabled)
        assert became(user) == [("held", reason)] * 2
        assert len(inbox(client, user)) == 2
        assert mails_to(server, user) == []
        make_due(user)
        release_held()
        (mail,) = mails_to(server, user)
        assert str(mail["Subject"]) == "2 notifications"
        assert mail["List-Unsubscribe"] is not None


def test_the_tenant_is_asked_where_the_user_says_nothing_and_nobody_where_they_are_critical(
    client: FlaskClient, make_user: MakeUser, change_settings: Callable[..., None]
) -> None:
    user, other = make_user(), make_user()
    put_preference(other.id, "system", "in_app", {"enabled": False})
    for channel in ("in_app", "email"):
        put_default(user.organization_id, "webhooks", channel, False)
    for each in (user, other):
        fails(each)
    assert (inbox(client, user), became(user)) == ([], [("suppressed", "muted")])
    assert (len(inbox(client, other)), became(other)) == (1, [("pending", None)]), "a type of their own"
    for channel in ("in_app", "email"):
        put_preference(user.id, "webhooks", channel, {"enabled": True})
    fails(user)
    assert (len(inbox(client, user)), became(user)[1:]) == (1, [("pending", None)])
    for channel in ("in_app", "email"):
        put_preference(user.id, "webhooks", channel, {"enabled": False})
    change_settings(critical_notification_types=("webhooks",))
    fails(user)
    assert (len(inbox(client, user)), became(user)[2:]) == (2, [("pending", None)])


def test_what_is_muted_in_the_inbox_leaves_nothing_to_be_told(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    put_preference(user.id, "webhooks", "in_app", {"enabled": False})
    fails(user)
    assert (inbox(client, user), became(user)) == ([], [("pending", None)])
    with transaction() as session:
        # Of which his log would be taken for broken.
        assert session.scalars(select(UntoldEvent.id).where(UntoldEvent.user_id == user.id)).all() == []


def test_the_sender_is_woken_for_what_may_leave_now(make_user: MakeUser) -> None:
    user, muted = make_user(), make_user()
    put_preference(muted.id, "webhooks", "email", {"enabled": False})
    fall_asleep(SEND_TASK)
    fails(muted)
    assert not fall_asleep(SEND_TASK)
    fails(user)
    assert fall_asleep(SEND_TASK)


def test_a_platform_without_mails_sends_none(
    client: FlaskClient, make_user: MakeUser, change_settings: Callable[..., None]
) -> None:
    user = make_user()
    change_settings(email_enabled=False)
    fails(user)
    assert (len(inbox(client, user)), became(user)) == (1, [("suppressed", "channel_off")])


def test_who_asked_may_not_want_to_hear_what_became_of_it(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    for muted in ((), ("email",), ("in_app", "email")):
        sender = make_user()
        asked = make_user(organization=sender.organization_id)
        for channel in muted:
            put_preference(sender.id, "approvals", channel, {"enabled": False})
        notification_id = ask_for_approval(sender, [asked])[asked.id]
        pressed = client.post(f"/api/notifications/{notification_id}/actions/approve", headers=asked.headers)
        assert pressed.status_code == 200
        assert [each["type"] for each in inbox(client, sender)] == ([] if "in_app" in muted else ["approval_resolved"])
        assert became(sender) == [("suppressed", "muted") if "email" in muted else ("pending", None)]
        with transaction() as session:
            mails = session.scalars(select(ChannelMessage).where(ChannelMessage.user_id == sender.id))
            assert [mail.notification_type for mail in mails] == ["approvals"]
