"""Jobs of a send that fail: what is left goes to the outbox or waits for a replay, and nothing goes twice."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from flask import Flask
from flask.testing import FlaskClient

from service.jobs import lifecycle
from service.notifications import providers
from service.notifications.channel_messages import send_due_messages
from service.notifications.providers import health
from tasks.testing import run_job, run_until_done
from tests.conftest import Account, MakeUser
from tests.factories.sends import Mailbox, Sql, reasons, run_attempt


def test_a_mail_server_that_is_away_loses_nothing_and_the_job_ends_well(
    app: Flask, client: FlaskClient, make_user: MakeUser, post: Any, mailbox: Mailbox, sql: Sql
) -> None:
    sender = make_user(("sender",))
    user = make_user(organization=sender.organization_id)
    sent = post(sender, userIds=[str(sender.id), str(user.id)], channels=["email"]).json
    mailbox.is_away = True
    with app.app_context():
        runs = run_until_done("email-notification", {"sendId": sent["id"]}, user_id=sender.id)
    assert [run.status for run in runs] == ["retrying", "retrying", "completed"]
    assert [run.retry_in for run in runs] == [1, 2, None]
    assert runs[-1].result == {"recipients": 2, "sent": 0, "failed": 0, "held": 0, "suppressed": 0, "waiting": 2}
    sql("UPDATE channel_messages SET error = '550 <ada@example.com> +49 30 123456' WHERE send_id = :id", id=sent["id"])
    trace = client.get(f"/api/notifications/{sent['id']}/trace", headers=sender.headers).json["data"]
    assert {each["error"] for each in trace} == {"550 <a***@example.com> +49***56"}
    later = sql("SELECT next_attempt_at - now() AS wait FROM channel_messages WHERE send_id = :id", id=sent["id"])
    assert all(55 < each["wait"].total_seconds() < 61 for each in later)
    mailbox.is_away = False
    with app.app_context():
        for provider in providers.providers_of("email"):
            health.succeeded(provider.place)
        sql("UPDATE channel_messages SET next_attempt_at = now() WHERE send_id = :id", id=sent["id"])
        send_due_messages()
    # Other tests may have left mails of their own.
    assert [mailbox.recipients.count(f"{each.username}@example.com") for each in (sender, user)] == [1, 1]
    seen = client.get(f"/api/notification-sends/{sent['id']}", headers=sender.headers).json
    assert seen["perChannel"]["email"]["sent"] == 2


@pytest.fixture
def time_limit() -> Iterator[Callable[[float], AbstractContextManager[None]]]:
    """Ends what is run inside it after so many seconds as Celery does: a signal raises SoftTimeLimitExceeded there."""

    def strike(_signal: int, _frame: FrameType | None) -> None:
        raise SoftTimeLimitExceeded

    @contextmanager
    def limit(seconds: float) -> Iterator[None]:
        timer = threading.Timer(seconds, lambda: signal.raise_signal(signal.SIGUSR1))
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    before = signal.signal(signal.SIGUSR1, strike)
    yield limit
    signal.signal(signal.SIGUSR1, before)


def test_a_mail_server_that_hangs_to_the_end_leaves_the_rest_to_the_outbox(
    app: Flask, client: FlaskClient, crowd: Account, post: Any, mailbox: Mailbox, sql: Sql, time_limit: Any
) -> None:
    released = threading.Event()
    mailbox.before_answer = lambda _recipient: released.wait(60)
    job_id = post(crowd, all=True, channels=["email"]).json["jobs"][0]["jobId"]
    runs = []
    with app.app_context():
        for attempt in (1, 2, 3):
            with time_limit(0.5):
                runs.append(run_attempt(job_id, attempt=attempt))
            sql("UPDATE jobs SET next_attempt_at = now() WHERE id = :id AND status = 'retrying'", id=job_id)
            lifecycle.release_due()
    released.set()
    assert [run.status for run in runs] == ["retrying", "retrying", "completed"]
    assert [(run.error or {}).get("code") for run in runs] == ["timeout", "timeout", None]
    assert runs[-1].result is not None
    assert runs[-1].result["waiting"] == 51
    left = sql(
        """SELECT status, count(*) AS count, bool_and(next_attempt_at > now()) AS is_later FROM channel_messages
        WHERE next_attempt_at IS NOT NULL GROUP BY status, send_id
        HAVING send_id = (SELECT (payload ->> 'sendId')::uuid FROM jobs WHERE id = :id) ORDER BY status""",
        id=job_id,
    )
    # Each attempt had one in hand, of which nobody knows whether it left: its lease says when it goes again.
    assert [tuple(each.values()) for each in left] == [("pending", 48, True), ("sending", 3, True)]


def test_a_job_that_is_cancelled_while_no_provider_answers_leaves_nothing_to_the_outbox(
    app: Flask, client: FlaskClient, crowd: Account, post: Any, mailbox: Mailbox
) -> None:
    sent = post(crowd, all=True, channels=["email"]).json
    asked: list[str] = []
    mailbox.before_answer = asked.append
    mailbox.is_away = True
    with app.app_context():
        # Its last attempt, cancelled when the first mail is with the mail server.
        run = run_attempt(sent["jobs"][0]["jobId"], attempt=3, cancel_when=lambda _: bool(asked))
    run.assert_cancelled()
    assert len(asked) == 1
    assert reasons(client, crowd, sent["id"]) == {("suppressed", "cancelled"): 51}


def test_a_dead_letter_that_is_replayed_sends_only_the_rest(
    app: Flask, client: FlaskClient, make_user: MakeUser, mailbox: Mailbox
) -> None:
    admin = make_user(("admin",))
    users = [make_user(organization=admin.organization_id) for _ in range(3)]
    broken = "{% if username == '" + users[1].username + "' %}{{ 1 // 0 }}{% endif %}Hello {{ username }}"
    template = {"name": "greeting", "channel": "email", "subject": "Hi", "body": broken, "variables": ["username"]}
    made = client.post("/api/notification-templates", json=template, headers=admin.headers)
    assert made.status_code == 201, made.json
    body = {"type": "greeting", "template": "greeting", "userIds": [str(each.id) for each in users]}
    sent = client.post("/api/notifications", json={**body, "channels": ["email"]}, headers=admin.headers).json
    job_id = sent["jobs"][0]["jobId"]
    with app.app_context():
        assert run_attempt(job_id).status == "failed"
    assert sorted(mailbox.recipients) == sorted(f"{each.username}@example.com" for each in (users[0], users[2]))
    mended = {**template, "body": "Hello {{ username }}"}
    changed = client.put(f"/api/notification-templates/{made.json['id']}", json=mended, headers=admin.headers)
    assert changed.status_code == 200, changed.json
    replayed = client.post(f"/api/dead-letters/{job_id}/replay", headers=admin.headers)
    assert replayed.status_code in (200, 202), replayed.json
    with app.app_context():
        run = run_attempt(job_id)
    assert run.result == {"recipients": 3, "sent": 3, "failed": 0, "held": 0, "suppressed": 0, "waiting": 0}
    assert sorted(mailbox.recipients) == sorted(f"{each.username}@example.com" for each in users)
    seen = client.get(f"/api/notification-sends/{sent['id']}", headers=admin.headers).json
    assert seen["status"] == "completed"


def test_one_message_that_cannot_be_worded_keeps_nobody_waiting(
    app: Flask, client: FlaskClient, make_user: MakeUser, mailbox: Mailbox
) -> None:
    admin = make_user(("admin",))
    users = [make_user(organization=admin.organization_id) for _ in range(2)]
    words = "{% if username == '" + users[0].username + "' %}{{ 1 // 0 }}{% endif %}Hello {{ username }}"
    template = {"name": "greeting", "channel": "email", "locale": "en", "subject": "Hi", "body": words, "variables": []}
    made = client.post(
        "/api/notification-templates", json={**template, "variables": ["username"]}, headers=admin.headers
    )
    assert made.status_code == 201, made.json
    body = {"type": "greeting", "template": "greeting", "userIds": [str(each.id) for each in users]}
    sent = client.post("/api/notifications", json={**body, "channels": ["email"]}, headers=admin.headers).json
    with app.app_context():
        run = run_job("email-notification", {"sendId": sent["id"]}, user_id=admin.id)
    assert run.status == "failed"
    assert mailbox.recipients == [f"{users[1].username}@example.com"]
    assert reasons(client, admin, sent["id"]) == {("sent", None): 1, ("pending", None): 1}
