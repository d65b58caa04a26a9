"""Backlogs: an endpoint without room keeps its own deliveries waiting and nobody else's, in the order of events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import select, update

from service.clock import utcnow
from service.database import Row, db, transaction
from service.ids import new_id
from service.notifier.channels.webhook import plan_progress
from service.webhooks.backlog import Room, claim_backlogs, free_stranded_backlogs
from service.webhooks.models import Webhook, WebhookDelivery
from service.webhooks.outbox import claim_due, deliveries_are_due
from tests.conftest import MakeUser
from tests.factories.jobs import run_a_job
from tests.factories.webhooks import delivery, endpoint, make_endpoint, plan_deliveries

pytestmark = pytest.mark.usefixtures("in_app", "nothing_due")

MANY = 1000


@pytest.fixture
def nothing_due(app: Flask) -> None:
    """What other tests left is not due."""
    with app.app_context(), transaction() as session:
        session.execute(update(WebhookDelivery).values(status="skipped", in_backlog=False, next_attempt_at=None))
        session.execute(update(Webhook).values(backlog_at=None))


def ids(rows: Sequence[Row]) -> list[UUID]:
    return [UUID(str(row["id"])) for row in rows]


def everything(endpoint_id: str) -> Room:
    return Room(MANY)


def test_what_an_endpoint_has_no_room_for_waits_in_its_backlog_and_others_go(make_user: MakeUser) -> None:
    user = make_user()
    busy, other = make_endpoint(user), make_endpoint(user)
    crowd = plan_deliveries(user, busy, 10)
    alone = plan_deliveries(user, other, 1)
    claimed = claim_due(100, 3, {})
    assert sorted(ids(claimed.rows)) == sorted(crowd[:3] + alone)
    assert (claimed.seen, claimed.met_backlog) == (11, True)
    assert [delivery(each).attempts for each in crowd] == [1] * 3 + [0] * 7, "who waits has spent no attempt"
    assert endpoint(busy).backlog_at is not None
    assert endpoint(other).backlog_at is None
    assert claim_due(100, 3, {}).seen == 0, "the backlog is in nobody's way"
    assert deliveries_are_due()


def test_a_backlog_goes_in_the_order_of_events_and_ends(make_user: MakeUser) -> None:
    user = make_user()
    busy = make_endpoint(user)
    crowd = plan_deliveries(user, busy, 6)
    claim_due(100, 0, {})
    first, seconds = claim_backlogs(100, lambda _: Room(2))
    assert ids(first) == crowd[:2]
    assert seconds < 1
    with transaction() as session:
        session.execute(update(Webhook).values(backlog_at=utcnow()).where(Webhook.id == busy))
    rest, seconds = claim_backlogs(100, everything)
    assert ids(rest) == crowd[2:]
    assert seconds > 1
    assert endpoint(busy).backlog_at is None
    assert not deliveries_are_due()


def test_what_is_planned_for_an_endpoint_with_a_backlog_joins_it(app: Flask, make_user: MakeUser) -> None:
    user = make_user()
    busy = make_endpoint(user)
    crowd = plan_deliveries(user, busy, 1)
    claim_due(100, 0, {})
    run_a_job(app, user)
    assert claim_due(100, MANY, {}).seen == 0
    rows, _ = claim_backlogs(100, everything)
    assert ids(rows)[:1] == crowd
    assert len(rows) == 2


def test_a_retry_that_comes_due_joins_the_backlog_of_its_endpoint(make_user: MakeUser) -> None:
    user = make_user()
    busy = make_endpoint(user)
    plan_deliveries(user, busy, 2)
    claim_due(100, 1, {})
    retried = plan_deliveries(user, busy, 1, attempts=3)[0]
    assert not claim_due(100, MANY, {}).rows
    assert delivery(retried).in_backlog


def test_an_endpoint_that_is_left_alone_is_asked_again_when_its_time_has_come(make_user: MakeUser) -> None:
    user = make_user()
    broken = make_endpoint(user)
    plan_deliveries(user, broken, 3)
    assert not claim_due(100, MANY, {str(broken): 0}).rows
    again = utcnow() + timedelta(minutes=1)
    assert not claim_backlogs(100, lambda _: Room(0, again))[0]
    assert endpoint(broken).backlog_at == again
    assert not claim_backlogs(100, everything)[0], "nobody looks at it before"
    assert not deliveries_are_due()


def test_a_row_that_was_planned_as_the_backlog_ended_is_found(make_user: MakeUser) -> None:
    user = make_user()
    quiet = make_endpoint(user)
    stranded = plan_deliveries(user, quiet, 1, in_backlog=True)
    assert not claim_backlogs(100, everything)[0]
    free_stranded_backlogs()
    assert ids(claim_backlogs(100, everything)[0]) == stranded


def test_what_endpoints_that_are_off_were_to_get_is_skipped(make_user: MakeUser) -> None:
    user = make_user()
    off = make_endpoint(user, active=False)
    due = plan_deliveries(user, off, 3)
    waiting = plan_deliveries(user, off, 3, in_backlog=True)
    free_stranded_backlogs()
    assert not claim_due(100, MANY, {}).rows
    assert not claim_backlogs(100, everything)[0]
    assert {delivery(each).status for each in due + waiting} == {"skipped"}
    assert endpoint(off).backlog_at is None


def test_a_rate_lets_go_of_one_delivery_after_the_other(make_user: MakeUser) -> None:
    user = make_user()
    paced = make_endpoint(user, rate_limit=2)
    crowd = plan_deliveries(user, paced, 3)
    assert not claim_due(100, MANY, {}).rows
    first, seconds = claim_backlogs(100, everything)
    assert ids(first) == crowd[:1]
    assert 0.3 < seconds <= 0.5
    assert not claim_backlogs(100, everything)[0]
    with transaction() as session:
        earlier = utcnow() - timedelta(seconds=0.01)
        session.execute(update(Webhook).values(backlog_at=earlier, paced_until=earlier).where(Webhook.id == paced))
    assert ids(claim_backlogs(100, everything)[0]) == crowd[1:2]


def test_an_interrupted_attempt_counts_and_is_made_again(make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    lost = plan_deliveries(user, webhook_id, 1, status="delivering", attempts=1)
    rows = claim_due(100, MANY, {}).rows
    assert ids(rows) == lost
    assert rows[0]["attempts"] == 2


def test_a_row_that_was_planned_as_its_endpoint_was_deleted_is_skipped(make_user: MakeUser) -> None:
    orphan = plan_deliveries(make_user(), new_id(), 1, in_backlog=True)[0]
    free_stranded_backlogs()
    assert not claim_due(100, MANY, {}).rows
    assert delivery(orphan).status == "skipped"


def test_no_probe_is_asked_for_where_nothing_could_go(make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user, backlog_at=utcnow())
    asked: list[str] = []

    def room(endpoint_id: str) -> Room:
        asked.append(endpoint_id)
        return Room(1)

    claim_backlogs(100, room)
    assert asked == [], "its backlog is empty"
    plan_deliveries(user, webhook_id, 1, in_backlog=True)
    free_stranded_backlogs()
    claim_backlogs(0, room)
    assert asked == [], "there is no place"


def test_a_step_that_was_not_sent_gives_way_to_the_next_and_one_that_failed_is_left(make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user, event_type="progress")
    job = {"id": new_id(), "name": "Demo", "user_id": user.id}

    def steps() -> list[tuple[str, int]]:
        query = select(WebhookDelivery.status, WebhookDelivery.payload).where(WebhookDelivery.webhook_id == webhook_id)
        rows = db.session.execute(query.order_by(WebhookDelivery.id))
        return [(status, payload["data"]["progress"]["percentage"]) for status, payload in rows]

    plan_progress(job, {"percentage": 10})
    plan_progress(job, {"percentage": 20})
    assert steps() == [("pending", 20)]
    claim_due(100, MANY, {})
    plan_progress(job, {"percentage": 30})
    assert steps() == [("delivering", 20), ("pending", 30)], "what is under way stays as it is"
    with transaction() as session:
        session.execute(update(WebhookDelivery).values(attempts=1).where(WebhookDelivery.webhook_id == webhook_id))
        session.execute(
            update(WebhookDelivery).values(status="pending").where(WebhookDelivery.webhook_id == webhook_id)
        )
    plan_progress(job, {"percentage": 40})
    assert steps() == [("skipped", 20), ("skipped", 30), ("pending", 40)]
