"""Messages that wait for their hour: released alone or gathered, each in exactly one mail."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from service.clock import utcnow
from service.database import db, transaction
from service.jobs import lifecycle
from service.jobs.submission import Submission, submit_job
from service.notifications.channel_messages import DueMessage
from service.notifications.composing import compose
from service.notifications.digests import MAXIMUM_ITEMS, release_held
from service.notifications.models import ChannelMessage, NotificationSend
from service.notifications.providers import Letter
from service.settings import current_settings
from tests.conftest import Account, MakeUser
from tests.factories.channel_messages import hold, make_due, messages
from tests.factories.jobs import run_a_job, start


def letter_of(message: ChannelMessage) -> Letter:
    """The letter that a message becomes."""
    due = DueMessage(
        message.id,
        message.user_id,
        message.channel,
        message.template,
        message.data,
        1,
        message.created_at,
        message.organization_id,
    )
    return compose(due)


def test_one_message_leaves_as_it_is_and_several_as_one(app: Flask, make_user: MakeUser) -> None:
    alone, busy = make_user(), make_user()
    with app.app_context():
        hold(alone)
        hold(alone, channel="whatsapp")
        waiting = hold(alone, due=False, digest="daily", reason="digest")
        members = hold(busy, 3, digest="hourly", reason="digest")
        while release_held():
            continue
        kept = {each.id: each for each in messages(alone)}
        assert Counter(each.status for each in kept.values()) == {"pending": 2, "held": 1}
        assert kept[waiting[0]].status == "held"
        assert {each.template for each in kept.values()} == {"webhook_failing"}, (
            "by two channels, so nothing is gathered"
        )
        (digest,) = (each for each in messages(busy) if each.template == "digest")
        gathered = {each.id: (each.status, each.digest_id) for each in messages(busy) if each.template != "digest"}
        assert gathered == dict.fromkeys(members, ("digested", digest.id))
        assert (digest.status, digest.template, digest.organization_id) == ("pending", "digest", busy.organization_id)
        assert digest.data["period"] == "hourly"
        assert [each["title"] for each in digest.data["items"]] == ["News 0", "News 1", "News 2"]


def test_each_message_is_in_exactly_one_mail_though_many_tick_at_once(app: Flask, make_user: MakeUser) -> None:
    users = [make_user() for _ in range(6)]
    with app.app_context():
        held = {id_ for user in users for id_ in hold(user, 40, digest="daily", reason="digest")}

    def work(_: int) -> int:
        with app.app_context():
            return release_held()

    with ThreadPoolExecutor(8) as ticks:
        while sum(ticks.map(work, range(8))):
            continue
    with app.app_context():
        rows = [each for user in users for each in messages(user)]
    mails = {each.id: each for each in rows if each.template == "digest"}
    members = [each for each in rows if each.id in held]
    assert len(mails) == len(users)
    assert {(each.status, each.digest_id in mails) for each in members} == {("digested", True)}
    assert Counter(each.digest_id for each in members) == dict.fromkeys(mails, 40)
    assert {(each.data["count"], len(each.data["items"]), each.data["more"]) for each in mails.values()} == {
        (40, 40, 0)
    }


def test_what_is_locked_is_left_to_the_next_tick(app: Flask, make_user: MakeUser) -> None:
    user = make_user()
    with app.app_context():
        first, second = hold(user), hold(user)
        with db.engine.begin() as elsewhere:
            elsewhere.execute(select(ChannelMessage.id).where(ChannelMessage.id == first[0]).with_for_update())
            release_held()
            assert {each.id: each.status for each in messages(user)} == {first[0]: "held", second[0]: "pending"}
        release_held()
        assert {each.status for each in messages(user)} == {"pending"}


def fail_jobs(user: Account, count: int, name: str = "Export") -> None:
    """Jobs of a user that fail."""
    for _ in range(count):
        submission = Submission(type="demo-steps", payload={"steps": 1}, name=name)
        row = submit_job(submission, organization_id=user.organization_id, user_id=user.id).row
        start(UUID(str(row["id"])))
        lifecycle.fail_job(UUID(str(row["id"])), 1, {"code": "boom", "message": "Disk full", "retryable": False})


def test_the_ends_of_jobs_are_mailed_together_failures_first(app: Flask, make_user: MakeUser) -> None:
    user = make_user()
    with app.app_context():
        run_a_job(app, user)
        held = messages(user)
        assert [(each.status, each.template, each.digest) for each in held] == [("held", "job_completed", "burst")]
        assert held[0].next_attempt_at is not None
        assert timedelta(seconds=5) < held[0].next_attempt_at - utcnow() < timedelta(seconds=11)
        alone = letter_of(held[0])
        assert alone.subject.endswith(" has completed")
        assert f"/jobs/{held[0].data['jobId']}" in alone.text
        make_due(user)
        fail_jobs(user, MAXIMUM_ITEMS + 2)
        release_held()
        assert not [each for each in messages(user) if each.status == "held"], "what is not due itself goes along"
        digests = [each for each in messages(user) if each.template == "digest"]
        assert len(digests) == 1
        assert digests[0].notification_type == "job_status"
        data = digests[0].data
        assert (data["count"], data["more"], data["period"]) == (MAXIMUM_ITEMS + 3, 3, None)
        assert {(each["title"], each["message"]) for each in data["items"]} == {
            ("Export failed", "Export failed: Disk full")
        }
        letter = letter_of(digests[0])
        assert letter.subject == "53 notifications"
        assert letter.text.count("Export failed: Disk full") == MAXIMUM_ITEMS
        assert "and 3 more" in letter.text


def test_who_mutes_them_or_is_in_quiet_hours_gets_no_mail_of_a_job_now(
    app: Flask, client: FlaskClient, make_user: MakeUser
) -> None:
    muted, quiet = make_user(), make_user()
    body = {"notificationType": "job_status", "channel": "email", "enabled": False}
    client.put("/api/notifications/preferences", json=body, headers=muted.headers)
    now = utcnow()
    hours = {"start": f"{(now - timedelta(hours=1)):%H:00}", "end": f"{(now + timedelta(hours=2)):%H:00}"}
    client.put("/api/notifications/quiet-hours", json=hours, headers=quiet.headers)
    with app.app_context():
        for user in (muted, quiet):
            run_a_job(app, user)
        assert [(each.status, each.reason, each.data) for each in messages(muted)] == [("suppressed", "muted", {})]
        held = messages(quiet)
        assert [(each.status, each.reason, each.digest) for each in held] == [("held", "quiet_hours", None)]
        assert held[0].next_attempt_at is not None
        assert f"{held[0].next_attempt_at:%H:%M}" == hours["end"]


def test_jobs_that_tell_nothing_and_platforms_that_mail_nothing(
    app: Flask, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = make_user()
    with app.app_context():
        submission = Submission(type="demo-steps", payload={"steps": 1}, notify=False)
        row = submit_job(submission, organization_id=user.organization_id, user_id=user.id).row
        start(UUID(str(row["id"])))
        lifecycle.complete_job(UUID(str(row["id"])), 1, {})
        assert messages(user) == []
        without = replace(current_settings(), email_enabled=False)
        monkeypatch.setitem(app.extensions, "carillon_settings", without)
        run_a_job(app, user)
        assert messages(user) == []


def test_a_digest_says_what_was_sent_and_leaves_out_what_has_expired(app: Flask, make_user: MakeUser) -> None:
    user = make_user()
    with app.app_context():
        with transaction() as session:
            sends = [
                NotificationSend(
                    organization_id=user.organization_id,
                    type="informational",
                    category="releases",
                    title=title,
                    message="It is here.",
                    data={},
                    audience={},
                    channels=["email"],
                    is_critical=False,
                    expires_at=expires_at,
                )
                for title, expires_at in (("One", None), ("Two", None), ("Old", utcnow() - timedelta(minutes=1)))
            ]
            session.add_all(sends)
        held = {send.title: hold(user, send_id=send.id, template="send", data={})[0] for send in sends}
        release_held()
        rows = {each.id: each for each in messages(user)}
        assert (rows[held["Old"]].status, rows[held["Old"]].reason) == ("suppressed", "expired")
        (digest,) = (each for each in rows.values() if each.template == "digest")
        assert [(each["title"], each["message"]) for each in digest.data["items"]] == [
            ("One", "It is here."),
            ("Two", "It is here."),
        ]
