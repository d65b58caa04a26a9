"""Failed jobs: one alert to the operators and to the owner, and one mail of all, however many fail."""

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
from service.notifications.composing import words_of
from service.notifications.digests import MAXIMUM_ITEMS, release_held
from service.notifications.models import ChannelMessage, Notification
from service.notifications.preferences import put_preference
from service.operations.alerts import alert_to_failures, forget_old_alerts
from service.operations.models import FailureAlert, OwnerAlert
from tests.conftest import Account, MakeUser
from tests.factories.channel_messages import messages
from tests.factories.jobs import send_held
from tests.factories.untellable import make_tellable, make_untellable

DISK_FULL = {"code": "disk_full", "message": "No space left", "retryable": False}


def fail(user: Account, count: int, error: dict[str, Any] = DISK_FULL, *, notify: bool = True) -> None:
    """So many jobs of a user that fail with an error."""
    submission = Submission(type="demo-steps", payload={"steps": 1}, notify=notify)
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
        for table, column, whose in (
            ("jobs", "completed_at", "organization_id"),
            ("failure_alerts", "alerted_at", "organization_id"),
            ("owner_alerts", "alerted_at", "user_id"),
        ):
            earlier = f"UPDATE {table} SET {column} = {column} - :by WHERE {whose} IN (:organization_id, :user_id)"
            known = {"by": by, "organization_id": user.organization_id, "user_id": user.id}
            session.execute(text(earlier), known)


def alert_mails(user: Account) -> list[ChannelMessage]:
    """The mails about alerts to a user, whatever became of them."""
    return [each for each in messages(user) if each.notification_type == "alerts"]


def test_500_failures_are_one_alert_and_one_mail(app: Flask, make_user: MakeUser) -> None:
    owner = make_user()
    operator = make_user(("operator",), owner.organization_id)
    admin = make_user(("admin",), owner.organization_id)
    stranger = make_user(("operator",))

    def tick(_: int) -> None:
        with app.app_context():
            alert_to_failures()

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
        title = "500 of your jobs of type demo-steps failed"
        assert [(each.title, each.data["failures"]) for each in alerts(owner)] == [(title, 500)]
        assert [(each.status, each.data["subject"]) for each in alert_mails(owner)] == [("pending", title)]
        assert alerts(stranger) == []
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
        (mail,) = (
            each for each in messages(owner) if each.status == "pending" and each.notification_type == "job_status"
        )
        assert (mail.channel, mail.data["count"], len(mail.data["items"])) == ("email", 500, MAXIMUM_ITEMS)


def test_the_next_alert_waits_and_says_how_many_more(app: Flask, make_user: MakeUser) -> None:
    owner = make_user()
    operator = make_user(("operator",), owner.organization_id)
    with app.app_context():
        fail(owner, 9)
        fail(owner, 9, {**DISK_FULL, "code": "other"})
        alert_to_failures()
        assert alerts(operator) == [], "fewer than ten of one kind"
        fail(owner, 1)
        alert_to_failures()
        fail(owner, 12)
        alert_to_failures()
        assert [each.data["failures"] for each in alerts(operator)] == [10]
        turn_back(owner, timedelta(hours=1))
        alert_to_failures()
        assert len(alerts(operator)) == 1, "nothing has failed of late"
        fail(owner, 11)
        alert_to_failures()
        assert [each.data["failures"] for each in alerts(operator)] == [10, 23]
        assert "23 more jobs" in alerts(operator)[1].title
        assert [each.title for each in alerts(owner)] == [
            "10 of your jobs of type demo-steps failed",
            "23 more of your jobs of type demo-steps failed",
        ]
        for user in (owner, operator):
            mails = [
                words_of(user.organization_id, each.template, None, each.data, "email") for each in alert_mails(user)
            ]
            assert [each.subject for each in mails] == [each.title for each in alerts(user)]
            assert ["since the last alert" in each.text for each in mails] == [False, True]


def test_an_owner_hears_of_his_own_only(app: Flask, make_user: MakeUser) -> None:
    first = make_user()
    second, quiet = (make_user(organization=first.organization_id) for _ in range(2))
    operator = make_user(("operator",), first.organization_id)
    with app.app_context():
        fail(first, 6)
        fail(second, 6)
        fail(quiet, 12, notify=False)
        alert_to_failures()
        assert alerts(first) == alerts(second) == alerts(quiet) == [], "fewer than ten each, and what keeps quiet"
        assert [each.data["failures"] for each in alerts(operator)] == [24]
        fail(second, 4)
        fail(operator, 10)
        alert_to_failures()
        assert [each.data["failures"] for each in alerts(second)] == [10]
        assert alerts(first) == []
        assert len(alerts(operator)) == 1, "who hears of all is not told of his own beside"


def test_alerts_can_be_muted(app: Flask, make_user: MakeUser) -> None:
    owner = make_user()
    with app.app_context():
        put_preference(owner.id, "alerts", "in_app", {"enabled": False})
        put_preference(owner.id, "alerts", "email", {"enabled": False})
        fail(owner, 10)
        alert_to_failures()
        assert alerts(owner) == []
        assert [(each.status, each.reason) for each in alert_mails(owner)] == [("suppressed", "muted")]


def told(*users: Account) -> list[int]:
    """How many alerts each of these users has."""
    return [len(alerts(user)) for user in users]


def test_who_cannot_be_told_keeps_nobody_from_hearing(app: Flask, make_user: MakeUser) -> None:
    owner = make_user()
    operators = [make_user(("operator",), owner.organization_id) for _ in range(3)]
    neighbours = [make_user(("operator",)) for _ in range(2)]
    with app.app_context():
        fail(owner, 10)
        for neighbour in neighbours:
            fail(neighbour, 10)
        for broken in (operators[0], neighbours[0]):
            make_untellable(broken.id)
        alert_to_failures()
        assert told(*operators) == [0, 1, 1], "within a tenant"
        assert told(owner, *neighbours) == [1, 0, 1], "and beyond"
        for broken in (operators[0], neighbours[0]):
            make_tellable(broken.id)
        alert_to_failures()
        assert told(*neighbours) == [1, 1], "what nobody has heard of is tried again"
        assert told(*operators) == [0, 1, 1], "and nobody is told twice"
        turn_back(owner, timedelta(hours=1))
        fail(owner, 10)
        alert_to_failures()
        assert told(*operators) == [1, 2, 2], "whom one alert passed by the next one reaches"


def test_alerts_of_long_ago_are_forgotten(app: Flask, make_user: MakeUser) -> None:
    owner = make_user()

    def kept() -> tuple[int, int]:
        with transaction() as session:
            of_tenant = select(FailureAlert).where(FailureAlert.organization_id == owner.organization_id)
            of_owner = select(OwnerAlert).where(OwnerAlert.user_id == owner.id)
            return len(session.scalars(of_tenant).all()), len(session.scalars(of_owner).all())

    with app.app_context():
        fail(owner, 10)
        alert_to_failures()
        turn_back(owner, timedelta(hours=23))
        forget_old_alerts()
        assert kept() == (1, 1)
        turn_back(owner, timedelta(hours=2))
        forget_old_alerts()
        assert kept() == (0, 0)
