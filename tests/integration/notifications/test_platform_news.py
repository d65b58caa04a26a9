"""What the platform itself tells: webhooks in trouble, settled approvals, alerts; to whom, and in whose words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from devstack.mail_catcher import MailCatcher
from service.clock import utcnow
from service.database import transaction
from service.events import WebhookDisabled, WebhookFailing, publish
from service.ids import new_id
from service.jobs import lifecycle
from service.jobs.submission import Submission, submit_job
from service.notification_templates.builtin import BUILTINS
from service.notification_templates.models import NotificationTemplate
from service.notifications.channel_messages import SEND_TASK, send_due_messages
from service.notifications.digests import release_held
from service.notifications.models import ChannelMessage
from service.notifications.preferences import put_default, put_preference
from service.notifications.providers import smtp_connections
from service.operations.alerts import alert_to_failures
from service.queue import fall_asleep
from service.realtime.models import UntoldEvent
from service.webhooks.models import WebhookDelivery
from tests.conftest import Account, MakeUser
from tests.factories.channel_messages import hold, make_due, messages
from tests.factories.inboxes import ask_for_approval
from tests.factories.jobs import run_a_job, start

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


def test_endpoints_for_everything_hear_of_them_as_little_as_those_for_jobs(
    client: FlaskClient, make_user: MakeUser
) -> None:
    user = make_user()
    for event_type in ("all", "completed", "notification"):
        body = {"url": f"http://127.0.0.1:9/{event_type}", "eventType": event_type, "payloadFormat": "standard"}
        assert client.post("/api/webhooks", json=body, headers=user.headers).status_code == 201
    fails(user)
    [told] = inbox(client, user)
    with transaction() as session:
        planned = session.scalars(select(WebhookDelivery).where(WebhookDelivery.user_id == user.id)).all()
    assert [(each.event_type, str(each.event_id)) for each in planned] == [("notification.created", told["id"])]


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


class Occasions:
    """What makes the platform write to a user, by the name of the template."""

    def __init__(self, app: Flask, client: FlaskClient, make_user: MakeUser, user: Account) -> None:
        self.app, self.client, self.make_user, self.user = app, client, make_user, user

    def password_reset(self) -> None:
        forgot = {"email": f"{self.user.username}@example.com"}
        assert self.client.post("/api/auth/password/forgot", json=forgot).status_code < 300

    def job_completed(self) -> None:
        run_a_job(self.app, self.user)

    def job_failed(self) -> None:
        submission = Submission(type="demo-steps", payload={"steps": 1})
        row = submit_job(submission, organization_id=self.user.organization_id, user_id=self.user.id).row
        job_id = UUID(str(row["id"]))
        start(job_id)
        lifecycle.fail_job(job_id, 1, {"code": "disk_full", "message": "No <space> left", "retryable": False})

    def digest(self) -> None:
        hold(self.user, 2, digest="daily")

    def approval_resolved(self) -> None:
        asked = self.make_user(organization=self.user.organization_id)
        notification_id = ask_for_approval(self.user, [asked])[asked.id]
        pressed = self.client.post(f"/api/notifications/{notification_id}/actions/approve", headers=asked.headers)
        assert pressed.status_code == 200

    def failure_alert(self) -> None:
        put_preference(self.user.id, "job_status", "email", {"enabled": False})
        self.job_failed()
        alert_to_failures()

    def webhook_failing(self) -> None:
        fails(self.user)

    def webhook_disabled(self) -> None:
        fails(self.user, WebhookDisabled)


@pytest.fixture
def occasions(
    app: Flask, client: FlaskClient, make_user: MakeUser, change_settings: Callable[..., None]
) -> Callable[[Account], Occasions]:
    """What makes the platform write to a user; one failed job is enough for an alert."""
    change_settings(alert_failures=1)
    return lambda user: Occasions(app, client, make_user, user)


def mail_to(server: MailCatcher, user: Account) -> EmailMessage:
    """The one mail to a user, which waits for nothing."""
    make_due(user)
    release_held()
    (mail,) = mails_to(server, user)
    return mail


def text_of(mail: EmailMessage, kind: str = "plain") -> str:
    """What a mail says."""
    body = mail.get_body((kind,))
    assert body is not None
    text: str = body.get_content().replace("\r\n", "\n")
    return text


@pytest.mark.parametrize("name", BUILTINS)
def test_every_message_of_the_platform_gives_way_to_a_tenants_own_with_all_it_is_sent_with(
    client: FlaskClient, make_user: MakeUser, server: MailCatcher, occasions: Callable[[Account], Occasions], name: str
) -> None:
    user = make_user()
    operator = make_user(("operator",), user.organization_id)
    variables = [*BUILTINS[name].variables, *BUILTINS[name].optional]
    template = {
        "name": name,
        "channels": ["email"],
        "subject": f"Our own {name}",
        "body": "\n".join(f"{each}: {{{{ {each}|tojson }}}}" for each in variables),
        "variables": variables,
    }
    made = client.post("/api/notification-templates", json=template, headers=operator.headers)
    assert made.status_code == 201, made.json
    getattr(occasions(user), name)()
    mail = mail_to(server, user)
    assert str(mail["Subject"]) == f"Our own {name}"
    said = dict(line.split(": ", 1) for line in text_of(mail).splitlines() if line)
    assert list(said) == variables
    assert said["username"] == f'"{user.username}"'
    assert [each for each, value in said.items() if value == "null"] == (["since"] if name == "failure_alert" else [])


@pytest.mark.parametrize("name", ["approval_resolved", "failure_alert", "webhook_failing", "webhook_disabled"])
def test_without_one_the_mail_says_what_the_inbox_says(
    client: FlaskClient, make_user: MakeUser, server: MailCatcher, occasions: Callable[[Account], Occasions], name: str
) -> None:
    user = make_user()
    getattr(occasions(user), name)()
    mail = mail_to(server, user)
    (news,) = (each for each in inbox(client, user) if each["type"] == name)
    assert str(mail["Subject"]) == news["title"]
    for line in news["message"].removesuffix(".").splitlines():
        assert line in text_of(mail)
    assert text_of(mail).startswith(f"Hello {user.username},")
    assert "<space>" not in text_of(mail, "html")
    assert mail["List-Unsubscribe"] is not None


@pytest.mark.parametrize("body", ["{{ label.nothing }}", "{{ title }} {{ gone }}"], ids=["fails", "asks for more"])
def test_a_mail_is_not_lost_where_the_tenants_words_fail(
    make_user: MakeUser,
    server: MailCatcher,
    occasions: Callable[[Account], Occasions],
    caplog: pytest.LogCaptureFixture,
    body: str,
) -> None:
    user = make_user()
    with transaction() as session:
        # As one that was written when messages were sent with more than they are today.
        session.add(
            NotificationTemplate(
                organization_id=user.organization_id,
                name="approval_resolved",
                locale="en",
                version=1,
                channels=["email"],
                subject="Our own",
                body=body,
                variables=["label", "title", *(["gone"] if "gone" in body else [])],
            )
        )
    occasions(user).approval_resolved()
    with caplog.at_level(logging.WARNING):
        mail = mail_to(server, user)
    assert str(mail["Subject"]).endswith(" approved: Deploy on Friday?")
    logged: list[Any] = [each.msg for each in caplog.records if each.levelno == logging.WARNING]
    assert [(each["event"], each["template"]) for each in logged] == [("template_passed_over", "approval_resolved")]


def test_a_digest_of_them_shows_what_the_inbox_shows(
    client: FlaskClient, make_user: MakeUser, server: MailCatcher, occasions: Callable[[Account], Occasions]
) -> None:
    user = make_user()
    put_preference(user.id, "approvals", "email", {"enabled": True, "digest": "daily"})
    occasions(user).approval_resolved()
    occasions(user).approval_resolved()
    text = text_of(mail_to(server, user))
    for each in inbox(client, user):
        assert each["title"].endswith(" approved: Deploy on Friday?")
        assert f"- {each['title']}\n  {each['message']}" in text
