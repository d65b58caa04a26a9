"""Failed jobs: one alert to the operators and one mail to the owner, however many fail."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from flask import Flask
from sqlalchemy import select, text, update

from service.clock import utcnow
from service.database import db, transaction
from service.jobs import lifecycle
from service.jobs.submission import Submission, submit_jobs
from service.notifications.digests import release_held
from service.notifications.models import ChannelMessage, Notification
from service.operations.alerts import alert_operators
from tests.conftest import Account, MakeUser
from tests.factories.jobs import send_held

DISK_FULL = {"code": "disk_full", "message": "No space left", "retryable": False}


def fail(user: Account, count: int, error: dict[str, Any] = DISK_FULL) -> None:
    """So many jobs of a user that fail with an error."""
    submission = Submission(type="demo-steps", payload={"steps": 1})
    rows = submit_jobs([submission] * count, organization_id=user.organization_id, user_id=user.id)
    send_held()
    for submitted in rows:
        job_id = submitted.row["id"]
        assert lifecycle.start_job(job_id, 1, "w")
        lifecycle.fail_job(job_id, 1, error)


def alerts(user: Account) -> list[Notification]:
    """The alerts in a user's inbox, oldest first."""
    db.session.rollback()
    query = select(Notification).where(Notification.user_id == user.id, Notification.type == "failure_alert")
    return list(db.session.scalars(query.order_by(Notification.created_at)))


def turn_back(user: Account, by: timedelta) -> None:
    """Have everything of the user's tenant happen earlier by so much."""
    with transaction() as session:
        for table, column in (("jobs", "completed_at"), ("failure_alerts", "alerted_at")):
            earlier = f"UPDATE {table} SET {column} = {column} - :by WHERE organization_id = :organization_id"
            session.execute(text(earlier), {"by": by, "organization_id": user.organization_id})


def test_500_failures_are_one_alert_and_one_mail(app: Flask, make_user: MakeUser) -> None:
    owner = make_user()
    operator = make_user(("operator",), owner.organization_id)
    admin = make_user(("admin",), owner.organization_id)
    stranger = make_user(("operator",))

    def tick(_: int) -> None:
        with app.app_context():
            alert_operators()

    with app.app_context():
        fail(owner, 500)
        with ThreadPoolExecutor(4) as ticks:
            list(ticks.map(tick, range(4)))
        for user in (operator, admin):
            (alert,) = alerts(user)
            assert alert.data["failures"] == 500
            assert alert.data["url"].endswith("/jobs?status=failed&type=demo-steps")
            assert "disk_full" in alert.message
            assert "No space left" in alert.message
        assert alerts(stranger) == alerts(owner) == []
        with transaction() as session:
            mine = (ChannelMessage.user_id == owner.id, ChannelMessage.status == "held")
            first = session.scalars(select(ChannelMessage.id).where(*mine).order_by(ChannelMessage.id).limit(1)).one()
            session.execute(update(ChannelMessage).where(ChannelMessage.id == first).values(next_attempt_at=utcnow()))
            # That the others were planned within the time of gathering, whatever this machine takes.
            session.execute(
                update(ChannelMessage)
                .where(*mine, ChannelMessage.id != first)
                .values(next_attempt_at=utcnow() + timedelta(seconds=9))
            )
        while release_held():
            continue
        leaving = select(ChannelMessage).where(ChannelMessage.user_id == owner.id, ChannelMessage.status == "pending")
        (mail,) = db.session.scalars(leaving)
        assert (mail.channel, mail.data["count"]) == ("email", 500)


def test_the_next_alert_waits_and_says_how_many_more(app: Flask, make_user: MakeUser) -> None:
    owner = make_user()
    operator = make_user(("operator",), owner.organization_id)
    with app.app_context():
        fail(owner, 9)
        fail(owner, 9, {**DISK_FULL, "code": "other"})
        alert_operators()
        assert alerts(operator) == [], "fewer than ten of one kind"
        fail(owner, 1)
        alert_operators()
        fail(owner, 12)
        alert_operators()
        assert [each.data["failures"] for each in alerts(operator)] == [10]
        turn_back(owner, timedelta(hours=1))
        alert_operators()
        assert len(alerts(operator)) == 1, "nothing has failed of late"
        fail(owner, 11)
        alert_operators()
        assert [each.data["failures"] for each in alerts(operator)] == [10, 23]
        assert "23 more jobs" in alerts(operator)[1].title
