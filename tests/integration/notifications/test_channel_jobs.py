"""The jobs of a send: slices, batches, cancelling, and nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient

from service.clock import isoformat, utcnow
from service.database import db
from service.ids import new_id
from service.jobs import lifecycle
from service.notifications import sending
from tasks.testing import run_job
from tests.conftest import Account, MakeUser
from tests.factories.sends import Mailbox, Sql, inbox, reasons


def test_of_what_was_called_off_nothing_more_is_planned(
    app: Flask, client: FlaskClient, crowd: Account, post: Any, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sending.SLICE, "email", 20)
    sent = post(crowd, all=True, channels=["in_app", "email"]).json
    with app.app_context():
        # As jobs have read it that began before.
        parts = [
            sending.Part(send=sending.read_send(UUID(sent["id"])), channel=channel) for channel in ("in_app", "email")
        ]
        for part in parts:
            db.session.refresh(part.send)
        db.session.expunge_all()
        assert client.delete(f"/api/notification-sends/{sent['id']}", headers=crowd.headers).status_code == 200
        assert list(sending.fill_inboxes(parts[0])) == []
        assert sending.plan_messages(parts[1]) == []
        assert sending.submit_slices(parts[1], crowd.id, new_id()) == 0
        for channel in ("in-app", "email"):
            run = run_job(f"{channel}-notification", {"sendId": sent["id"]}, user_id=crowd.id)
            assert run.result == {"recipients": 0, "cancelled": True}
    assert (inbox(client, crowd), mailbox.recipients) == ([], [])


def test_a_large_audience_is_cut_into_slices_of_which_each_is_sent_once(
    app: Flask, client: FlaskClient, crowd: Account, post: Any, work: Any, mailbox: Mailbox, monkeypatch: Any
) -> None:
    monkeypatch.setitem(sending.SLICE, "email", 20)
    sent = post(crowd, all=True, channels=["email"]).json
    parent = sent["jobs"][0]["jobId"]
    with app.app_context():
        # The first attempt dies after it has submitted the slices.
        first = run_job("email-notification", {"sendId": sent["id"]}, job_id=UUID(parent), user_id=crowd.id)
    assert first.result == {"recipients": 51, "jobs": 3}
    runs = work(sent["id"])
    assert len(runs) == 4
    assert sorted(run.result.get("sent", 0) for run in runs) == [0, 11, 20, 20]
    assert len(mailbox.recipients) == len(set(mailbox.recipients)) == 51
    seen = client.get(f"/api/notification-sends/{sent['id']}", headers=crowd.headers).json
    assert (seen["status"], seen["recipients"], len(seen["jobs"])) == ("completed", 51, 1)
    assert seen["perChannel"]["email"]["sent"] == 51
    with app.app_context():
        run_job("email-notification", {"sendId": sent["id"]}, user_id=crowd.id).assert_completed()
    work(sent["id"])
    assert len(mailbox.recipients) == 51


def test_inboxes_are_written_in_batches_and_a_second_run_adds_nothing(
    app: Flask, client: FlaskClient, crowd: Account, post: Any, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "BATCH", 20)
    sent = post(crowd, all=True).json
    with app.app_context():
        for told in ([20, 40, 51], [51]):
            run = run_job("in-app-notification", {"sendId": sent["id"]}, user_id=crowd.id)
            assert run.result == {"recipients": 51, "delivered": 51, "suppressed": 0}
            assert [report["current"] for report in run.progress] == told
    (counted,) = sql(
        """SELECT count(*) AS written, count(DISTINCT user_id) AS users,
            (SELECT sum(unread) FROM inboxes JOIN users ON users.id = user_id
                WHERE organization_id = :tenant) AS unread
        FROM notifications WHERE send_id = :id""",
        id=sent["id"],
        tenant=crowd.organization_id,
    )
    assert set(counted.values()) == {51}
    told = client.get("/api/notifications/unread-count", headers=crowd.headers).json
    assert told == {"count": 1, "version": 1}


def test_a_number_that_is_none_is_not_tried(
    client: FlaskClient, make_user: MakeUser, post: Any, work: Any, sql: Sql, change_settings: Callable[..., None]
) -> None:
    sender = make_user(("sender",))
    nobody = make_user(organization=sender.organization_id)
    sql("UPDATE users SET phone = '+1234567' WHERE id = :id", id=sender.id)
    change_settings(whatsapp_providers=("waha",), waha_url="http://127.0.0.1:9")
    sent = post(sender, userIds=[str(sender.id), str(nobody.id)], channels=["whatsapp"]).json
    (run,) = work(sent["id"])
    assert run.result["suppressed"] == 2
    assert reasons(client, sender, sent["id"]) == {
        ("suppressed", "bad_address"): 1,
        ("suppressed", "no_address"): 1,
    }


def test_a_job_that_is_cancelled_on_its_way_sends_nothing_more(
    app: Flask, client: FlaskClient, crowd: Account, post: Any, mailbox: Mailbox
) -> None:
    sent = post(crowd, all=True, channels=["email"]).json
    with app.app_context():
        run_job("email-notification", {"sendId": sent["id"]}, user_id=crowd.id, cancel_after=3).assert_cancelled()
    assert len(mailbox.recipients) == 3
    assert reasons(client, crowd, sent["id"])["suppressed", "cancelled"] > 0
    cancelled = client.delete(f"/api/notification-sends/{sent['id']}", headers=crowd.headers).json
    assert cancelled["perChannel"]["email"] == {
        "pending": 0,
        "sent": 3,
        "failed": 0,
        "held": 0,
        "suppressed": 48,
        "delivered": 0,
    }
    with app.app_context():
        run_job("email-notification", {"sendId": sent["id"]}, user_id=crowd.id).assert_completed()
    assert len(mailbox.recipients) == 3


def test_what_has_expired_before_its_turn_is_told_to_nobody(
    app: Flask, client: FlaskClient, make_user: MakeUser, post: Any, work: Any, sql: Sql
) -> None:
    sender = make_user(("sender",))
    sent = post(sender, all=True, expiresAt=(utcnow() + timedelta(hours=1)).isoformat()).json
    sql("UPDATE notification_sends SET expires_at = now() WHERE id = :id", id=sent["id"])
    assert [run.result for run in work(sent["id"])] == [{"recipients": 0, "expired": True}]
    assert inbox(client, sender) == []


def test_what_is_scheduled_goes_out_at_its_time_and_not_before(
    app: Flask, client: FlaskClient, make_user: MakeUser, post: Any, work: Any, sql: Sql
) -> None:
    sender = make_user(("sender",))
    send_at = (utcnow() + timedelta(minutes=10)).replace(microsecond=0)
    sent = post(sender, all=True, sendAt=send_at.isoformat()).json
    status = "SELECT status FROM jobs WHERE id = :id"

    def release(at: datetime) -> str:
        with app.app_context(), time_machine.travel(at):
            while lifecycle.release_due():
                continue
        found: str = sql(status, id=sent["jobs"][0]["jobId"])[0]["status"]
        return found

    assert release(send_at - timedelta(seconds=5)) == "scheduled"
    assert (work(sent["id"]), inbox(client, sender)) == ([], [])
    assert release(send_at) == "queued"
    with time_machine.travel(send_at + timedelta(seconds=3)):
        work(sent["id"])
        (notification,) = inbox(client, sender)
    assert notification["createdAt"] == isoformat(send_at)
