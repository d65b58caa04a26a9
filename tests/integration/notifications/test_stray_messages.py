"""Messages that nobody would send any more end, visibly: their job ended without them, or their send was cancelled."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update

from service.clock import utcnow
from service.database import transaction
from service.jobs import lifecycle
from service.jobs.actions import cancel_job
from service.jobs.models import Job
from service.notifications import sending, strays
from service.notifications.channel_messages import claim_pending, send_due_messages
from tests.conftest import Account
from tests.factories.jobs import start
from tests.factories.sends import Mailbox, Sql, part_of, reasons, run_attempt

ERROR = {"code": "boom", "message": "It broke.", "retryable": False}

Post = Callable[..., Any]


@pytest.fixture
def planned(app: Flask, crowd: Account, post: Post, sql: Sql) -> tuple[str, UUID]:
    """A send by e-mail whose job has planned its 51 messages two minutes ago and sent none; its id and the job's."""
    sent = post(crowd, all=True, channels=["email"]).json
    with app.app_context():
        assert len(sending.plan_messages(part_of(sent["id"], "email"))) == 51
    age(sql, sent["id"])
    return sent["id"], UUID(sent["jobs"][0]["jobId"])


def age(sql: Sql, send_id: str) -> None:
    """Let two minutes pass for the messages of a send."""
    sql("UPDATE channel_messages SET created_at = now() - interval '2 minutes' WHERE send_id = :id", id=send_id)


def end_all(app: Flask) -> None:
    """As the tick does, two minutes after the ends of jobs: what a job has just ended without is given a while."""
    ended = update(Job).where(Job.completed_at.is_not(None), Job.type.endswith("-notification"))
    with app.app_context():
        with transaction() as session:
            session.execute(ended.values(completed_at=utcnow() - timedelta(minutes=2)))
        while strays.end_strays() == strays.BATCH:
            continue


def test_a_job_that_goes_on_keeps_its_messages(
    app: Flask, client: FlaskClient, crowd: Account, planned: tuple[str, UUID], sql: Sql
) -> None:
    send_id, job_id = planned
    waiting = {("pending", None): 51}
    for status in ("queued", "active", "retrying", "scheduled"):
        sql("UPDATE jobs SET status = :status WHERE id = :id", status=status, id=job_id)
        end_all(app)
        assert reasons(client, crowd, send_id) == waiting, status
    sql("DELETE FROM jobs WHERE id = :id", id=job_id)
    sql("UPDATE channel_messages SET created_at = now() WHERE send_id = :id", id=send_id)
    end_all(app)
    assert reasons(client, crowd, send_id) == waiting, "what was planned just now is given a while"


def test_a_dead_letter_keeps_its_messages_until_it_is_discarded(
    app: Flask, client: FlaskClient, crowd: Account, planned: tuple[str, UUID], sql: Sql
) -> None:
    send_id, job_id = planned
    with app.app_context():
        assert start(job_id) is not None
        lifecycle.fail_job(job_id, 1, ERROR)
    sql("UPDATE channel_messages SET error = 'Away.' WHERE send_id = :id", id=send_id)
    end_all(app)
    assert reasons(client, crowd, send_id) == {("pending", None): 51}
    discarded = client.delete(f"/api/dead-letters/{job_id}", headers=crowd.headers)
    assert discarded.status_code < 300, discarded.json
    end_all(app)
    assert reasons(client, crowd, send_id) == {("failed", None): 51}
    trace = client.get(f"/api/notifications/{send_id}/trace?limit=100", headers=crowd.headers).json["data"]
    assert {each["error"] for each in trace} == {"Its job ended without it. Away."}
    seen = client.get(f"/api/notification-sends/{send_id}", headers=crowd.headers).json
    assert (seen["status"], seen["perChannel"]["email"]["failed"]) == ("failed", 51)


def test_a_job_that_was_killed_while_it_was_cancelled_leaves_nothing_pending(
    app: Flask, client: FlaskClient, crowd: Account, planned: tuple[str, UUID]
) -> None:
    send_id, job_id = planned
    with app.app_context():
        assert start(job_id) is not None
        cancel_job(job_id)
        # What is written of a body that does not end, just before its process is killed.
        lifecycle.stop_job(job_id, 1)
    end_all(app)
    assert reasons(client, crowd, send_id) == {("suppressed", "cancelled"): 51}


def test_a_job_that_is_deleted_or_ended_without_them_leaves_nothing_pending(
    app: Flask, client: FlaskClient, crowd: Account, planned: tuple[str, UUID], post: Post, sql: Sql
) -> None:
    send_id, job_id = planned
    sql("UPDATE jobs SET status = 'completed', completed_at = now() WHERE id = :id", id=job_id)
    end_all(app)
    assert reasons(client, crowd, send_id) == {("failed", None): 51}
    other = post(crowd, all=True, channels=["in_app", "email"]).json
    with app.app_context():
        sending.plan_messages(part_of(other["id"], "email"))
    age(sql, other["id"])
    sql("DELETE FROM jobs WHERE id = :id", id=other["jobs"][1]["jobId"])
    end_all(app)
    # The job of the inbox still waits, and is another's.
    assert reasons(client, crowd, other["id"])["failed", None] == 51


def test_what_has_expired_with_its_job_says_so(
    app: Flask, client: FlaskClient, crowd: Account, planned: tuple[str, UUID], sql: Sql
) -> None:
    send_id, job_id = planned
    sql("UPDATE notification_sends SET expires_at = now() WHERE id = :id", id=send_id)
    with app.app_context():
        assert run_attempt(job_id).result == {"recipients": 0, "expired": True}
    end_all(app)
    assert reasons(client, crowd, send_id) == {("suppressed", "expired"): 51}


def test_several_who_look_at_once_end_each_once(
    app: Flask, planned: tuple[str, UUID], sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_id, job_id = planned
    monkeypatch.setattr(strays, "BATCH", 5)
    sql("DELETE FROM jobs WHERE id = :id", id=job_id)

    def look(_: int) -> None:
        with app.app_context():
            for _round in range(20):
                strays.end_strays()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(look, range(4)))
    (found,) = sql(
        """SELECT count(*) AS ended, count(DISTINCT error) AS errors FROM channel_messages
        WHERE send_id = :id AND status = 'failed'""",
        id=send_id,
    )
    assert (found["ended"], found["errors"]) == (51, 1)


@pytest.fixture
def cancel_with_the_first(client: FlaskClient, crowd: Account, mailbox: Mailbox, sql: Sql) -> Callable[[str], None]:
    """Has a send to the crowd be cancelled while its first mail is with the mail server, which then goes away."""
    rows = sql("SELECT email FROM users WHERE organization_id = :id", id=crowd.organization_id)
    addresses = {row["email"] for row in rows}

    def prepare(send_id: str) -> None:
        def cancel(recipient: str) -> None:
            # Other tests may have left mails of their own.
            if recipient in addresses and not mailbox.is_away:
                mailbox.is_away = True
                answer = client.delete(f"/api/notification-sends/{send_id}", headers=crowd.headers)
                assert answer.status_code == 200, answer.json

        mailbox.before_answer = cancel

    return prepare


def reached(mailbox: Mailbox) -> list[str]:
    """Who of the crowd got a mail."""
    return [each for each in mailbox.recipients if each.startswith("c")]


def test_a_message_of_a_job_that_fails_while_its_send_is_cancelled_is_called_off(
    app: Flask, client: FlaskClient, crowd: Account, post: Post, mailbox: Mailbox, cancel_with_the_first: Any
) -> None:
    sent = post(crowd, all=True, channels=["email"]).json
    cancel_with_the_first(sent["id"])
    with app.app_context():
        run = run_attempt(sent["jobs"][0]["jobId"])
    assert run.status == "retrying"
    assert reasons(client, crowd, sent["id"]) == {("suppressed", "cancelled"): 50, ("pending", None): 1}
    end_all(app)
    seen = client.get(f"/api/notification-sends/{sent['id']}", headers=crowd.headers).json
    assert (seen["status"], seen["perChannel"]["email"]["suppressed"]) == ("cancelled", 51)
    assert reached(mailbox) == []


@pytest.mark.parametrize("by", ["the outbox", "the tick"])
def test_a_message_of_the_outbox_that_fails_while_its_send_is_cancelled_never_leaves(
    app: Flask,
    client: FlaskClient,
    crowd: Account,
    planned: tuple[str, UUID],
    mailbox: Mailbox,
    sql: Sql,
    cancel_with_the_first: Any,
    by: str,
) -> None:
    send_id, job_id = planned
    sql("UPDATE jobs SET status = 'completed' WHERE id = :id", id=job_id)
    sql("UPDATE channel_messages SET next_attempt_at = :at WHERE send_id = :id", id=send_id, at=utcnow())
    cancel_with_the_first(send_id)
    with app.app_context():
        send_due_messages()
    assert reasons(client, crowd, send_id) == {("suppressed", "cancelled"): 50, ("pending", None): 1}
    mailbox.before_answer, mailbox.is_away = lambda _recipient: None, False
    if by == "the outbox":
        sql(
            "UPDATE channel_messages SET next_attempt_at = :at WHERE send_id = :id AND status = 'pending'",
            id=send_id,
            at=utcnow() - timedelta(seconds=1),
        )
        with app.app_context():
            send_due_messages()
    else:
        end_all(app)
    assert reasons(client, crowd, send_id) == {("suppressed", "cancelled"): 51}
    assert reached(mailbox) == []


def test_a_message_whose_sender_died_with_it_never_leaves_once_its_send_is_cancelled(
    app: Flask, client: FlaskClient, crowd: Account, planned: tuple[str, UUID], mailbox: Mailbox, sql: Sql
) -> None:
    send_id, _ = planned
    (first,) = sql("SELECT id FROM channel_messages WHERE send_id = :id LIMIT 1", id=send_id)
    with app.app_context():
        # Whoever claimed it is never heard of again.
        assert claim_pending(first["id"]) is not None
    assert client.delete(f"/api/notification-sends/{send_id}", headers=crowd.headers).status_code == 200
    sql("UPDATE channel_messages SET next_attempt_at = :at WHERE id = :id", id=first["id"], at=utcnow())
    with app.app_context():
        send_due_messages()
    assert reasons(client, crowd, send_id) == {("suppressed", "cancelled"): 51}
    assert reached(mailbox) == []
