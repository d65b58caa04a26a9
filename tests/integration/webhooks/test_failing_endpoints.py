"""Endpoints that fail and fail: their owners are warned, then they are switched off, and nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from service.clock import utcnow
from service.database import db, transaction
from service.notifications.models import ChannelMessage
from service.webhooks.models import Webhook
from service.webhooks.outbox import claim_due, record_attempts
from tests.conftest import Account, MakeUser
from tests.factories.jobs import run_a_job
from tests.factories.untellable import make_untellable
from tests.factories.webhooks import delivery, endpoint, make_endpoint, outcome, plan_deliveries

pytestmark = pytest.mark.usefixtures("in_app")


def attempt_all(user: Account, webhook_id: UUID, verdicts: list[str], together: bool = True) -> None:
    """Attempts with these verdicts, recorded at once or one by one."""
    planned = plan_deliveries(user, webhook_id, len(verdicts))
    rows = {row["id"]: row for row in claim_due(100_000, 100_000, {}).rows}
    outcomes = [
        outcome(
            rows[each],
            status="delivered" if verdict == "success" else "failed",
            verdict=verdict,
            is_free=verdict == "proxy",
        )
        for each, verdict in zip(planned, verdicts, strict=True)
    ]
    for batch in [outcomes] if together else [[each] for each in outcomes]:
        record_attempts(batch)


def news(client: FlaskClient, user: Account) -> list[str]:
    page = client.get("/api/notifications", headers=user.headers).get_json()
    return [each["type"] for each in page["data"]]


def mails(user: Account) -> list[str]:
    query = select(ChannelMessage.data["subject"].astext).where(ChannelMessage.user_id == user.id)
    return list(db.session.scalars(query.order_by(ChannelMessage.id)))


def test_the_owner_is_warned_once_at_fifty_failures_in_a_row(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    attempt_all(user, webhook_id, ["transient"] * 49)
    assert news(client, user) == []
    attempt_all(user, webhook_id, ["permanent"] * 3, together=False)
    assert news(client, user) == ["webhook_failing"]
    assert mails(user) == ["A webhook keeps failing"]
    assert (endpoint(webhook_id).failures, endpoint(webhook_id).active) == (52, True)


def test_what_came_of_attempts_is_kept_where_an_owner_cannot_be_told(client: FlaskClient, make_user: MakeUser) -> None:
    users = [make_user() for _ in range(3)]
    planned = [(make_endpoint(user), user) for user in users]
    deliveries = [each for webhook_id, user in planned for each in plan_deliveries(user, webhook_id, 50)]
    make_untellable(users[1].id)
    rows = {row["id"]: row for row in claim_due(100_000, 100_000, {}).rows}
    record_attempts([outcome(rows[each], status="failed", verdict="transient") for each in deliveries])
    assert {delivery(each).status for each in deliveries} == {"failed"}
    assert [endpoint(webhook_id).failures for webhook_id, _ in planned] == [50] * 3
    assert [news(client, user) for user in users] == [["webhook_failing"], [], ["webhook_failing"]]


def test_it_is_switched_off_at_a_hundred_and_what_it_misses_is_kept(
    app: Flask, client: FlaskClient, make_user: MakeUser
) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    attempt_all(user, webhook_id, ["transient"] * 99)
    waiting = plan_deliveries(user, webhook_id, 1)[0]
    attempt_all(user, webhook_id, [])
    assert delivery(waiting).status == "delivering"
    late = plan_deliveries(user, webhook_id, 1, next_attempt_at=utcnow() + timedelta(hours=1))[0]
    record_attempts([])
    attempt_all(user, webhook_id, ["transient"])
    assert endpoint(webhook_id).active is False
    assert endpoint(webhook_id).disabled_reason == "failing"
    assert news(client, user) == ["webhook_disabled", "webhook_failing"]
    assert mails(user) == ["A webhook keeps failing", "A webhook was switched off"]
    job_id = run_a_job(app, user)
    with transaction() as session:
        session.execute(
            update(type(delivery(late))).values(next_attempt_at=utcnow()).where(type(delivery(late)).id == late)
        )
    claim_due(1000, 1000, {})
    assert delivery(late).status == "skipped"
    page = client.get(f"/api/webhooks/{webhook_id}/deliveries?status=skipped", headers=user.headers).get_json()
    assert str(job_id) in [each["jobId"] for each in page["data"]]


def test_a_success_begins_the_count_anew(make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    attempt_all(user, webhook_id, ["transient"] * 60)
    attempt_all(user, webhook_id, ["success"])
    assert (endpoint(webhook_id).failures, endpoint(webhook_id).failing_since) == (0, None)
    attempt_all(user, webhook_id, ["transient"] * 99)
    assert endpoint(webhook_id).active


def test_five_days_of_nothing_but_failure_switch_it_off(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    attempt_all(user, webhook_id, ["transient"])
    with transaction() as session:
        long_ago = utcnow() - timedelta(days=5, seconds=1)
        session.execute(update(Webhook).values(failing_since=long_ago).where(Webhook.id == webhook_id))
    attempt_all(user, webhook_id, ["transient"])
    assert not endpoint(webhook_id).active
    assert news(client, user) == ["webhook_disabled"]


def test_gone_switches_it_off_at_once(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    attempt_all(user, webhook_id, ["success", "gone"])
    assert (endpoint(webhook_id).active, endpoint(webhook_id).disabled_reason) == (False, "gone")
    assert news(client, user) == ["webhook_disabled"]


@pytest.mark.parametrize("verdict", ["proxy", "internal"])
def test_faults_of_ours_are_not_charged(make_user: MakeUser, verdict: str) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    attempt_all(user, webhook_id, [verdict] * 120)
    assert (endpoint(webhook_id).failures, endpoint(webhook_id).active) == (0, True)


def test_an_attempt_that_the_proxy_failed_is_not_counted_by_the_schedule(make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    planned = plan_deliveries(user, webhook_id, 1)[0]
    row = next(row for row in claim_due(1000, 1000, {}).rows if row["id"] == planned)
    record_attempts([outcome(row, "pending", "proxy", utcnow(), is_free=True)])
    again = next(row for row in claim_due(1000, 1000, {}).rows if row["id"] == planned)
    assert (again["attempts"], again["free_attempts"]) == (2, 1)


def test_what_is_recorded_twice_counts_once(make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    planned = plan_deliveries(user, webhook_id, 1)[0]
    row = next(row for row in claim_due(1000, 1000, {}).rows if row["id"] == planned)
    failed = outcome(row, "failed", "transient")
    record_attempts([failed])
    record_attempts([failed])
    assert endpoint(webhook_id).failures == 1


def test_what_was_sent_to_the_old_url_is_not_charged_to_the_new_one(make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    planned = plan_deliveries(user, webhook_id, 1)[0]
    row = next(row for row in claim_due(1000, 1000, {}).rows if row["id"] == planned)
    gone = outcome(row, "failed", "gone")
    record_attempts([replace(gone, record={**gone.record, "request_url": "https://example.com/old"})])
    assert endpoint(webhook_id).active
