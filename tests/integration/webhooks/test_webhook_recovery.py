"""The recovery of what an endpoint missed, by a job."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import select, update

from service.audit.models import AuditEntry
from service.clock import isoformat, utcnow
from service.database import db, transaction
from service.jobs import lifecycle
from service.jobs.errors import LeaseLost
from service.jobs.models import Job
from service.webhooks.models import Webhook, WebhookDelivery
from tasks.testing import JobRun, run_job
from tests.conftest import Account, MakeUser
from tests.factories.jobs import run_a_job, start
from tests.factories.webhooks import delivery, endpoint, make_endpoint, plan_deliveries
from tests.integration.webhooks.conftest import Ask

pytestmark = pytest.mark.usefixtures("in_app")

LONG_AGO = "2026-01-01T00:00:00Z"
FAILED = {"status": "failed", "attempts": 8, "next_attempt_at": None}
SKIPPED = {"status": "skipped", "next_attempt_at": None}


def recover(ask: Ask, user: Account, webhook_id: UUID, **body: Any) -> tuple[UUID, int]:
    """Ask for a recovery; the id of the job that does it, started, and how many it is to find."""
    answer = ask(user, "POST", f"/api/webhooks/{webhook_id}/recover", {"since": LONG_AGO, **body})
    assert answer.status_code == 202, answer.get_json()
    job_id = UUID(answer.get_json()["jobId"])
    assert answer.headers["Location"] == f"/api/jobs/{job_id}"
    assert start(job_id) is not None
    return job_id, answer.get_json()["count"]


def run(user: Account, job_id: UUID, attempt: int = 1, **options: Any) -> JobRun:
    """An attempt of the job in this process."""
    db.session.rollback()
    payload = db.session.scalars(select(Job.payload).where(Job.id == job_id)).one()
    db.session.rollback()
    owner = {"user_id": user.id, "organization_id": user.organization_id}
    return run_job("webhook-recovery", payload, job_id=job_id, attempt=attempt, **owner, **options)


def statuses(ids: list[UUID]) -> list[str]:
    return [delivery(each).status for each in ids]


def test_what_failed_and_what_was_skipped_is_sent_anew(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    failed, skipped = plan_deliveries(user, webhook_id, 2, **FAILED), plan_deliveries(user, webhook_id, 2, **SKIPPED)
    well = [
        *plan_deliveries(user, webhook_id, 1, status="delivered"),
        *plan_deliveries(user, make_endpoint(user), 1, **FAILED),
    ]
    job_id, count = recover(ask, user, webhook_id)
    assert count == 4
    done = run(user, job_id)
    done.assert_completed()
    done.assert_progress_grows()
    assert done.result == {"count": 4}
    missed = [delivery(each) for each in failed + skipped]
    assert [each.status for each in missed] == ["pending"] * 4
    assert [each.free_attempts for each in missed] == [8, 8, 0, 0], "each has its whole schedule before it"
    times = [each.next_attempt_at for each in missed]
    assert times == sorted(times), "the oldest goes first"  # type: ignore[type-var]
    assert statuses(well) == ["delivered", "failed"]
    entry = db.session.scalars(select(AuditEntry).where(AuditEntry.action == "webhook.recover")).all()[-1]
    assert (entry.actor_id, entry.target_id, entry.details["count"]) == (user.id, str(webhook_id), 4)


def test_what_came_while_it_was_off_is_recovered_once_it_is_on(app: Flask, ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    path = f"/api/webhooks/{webhook_id}"
    ask(user, "PATCH", path, {"active": False})
    missed = run_a_job(app, user)
    off = ask(user, "POST", f"{path}/recover", {"since": LONG_AGO})
    assert (off.status_code, off.get_json()["code"]) == (409, "webhook_disabled")
    ask(user, "PATCH", path, {"active": True})
    # Its own end is an event too, but no old one.
    job_id, count = recover(ask, user, webhook_id, statuses=["skipped"])
    assert count == 1
    assert run(user, job_id).result == {"count": 1}
    page = ask(user, "GET", f"{path}/deliveries?status=pending").get_json()
    assert [each["jobId"] for each in page["data"]] == [str(missed)]


def test_only_these_statuses_of_this_time(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    (failed,), (skipped,) = (
        plan_deliveries(user, webhook_id, 1, **FAILED),
        plan_deliveries(user, webhook_id, 1, **SKIPPED),
    )
    soon = isoformat(utcnow() + timedelta(hours=1))
    for body, count in (
        ({"since": soon}, 0),
        ({"until": LONG_AGO, "since": "2025-01-01T00:00:00Z"}, 0),
        ({"statuses": ["failed", "failed"], "until": soon}, 1),
    ):
        job_id, found = recover(ask, user, webhook_id, **body)
        assert (found, run(user, job_id).result) == (count, {"count": count})
        lifecycle.complete_job(job_id, 1, None)
    assert statuses([failed, skipped]) == ["pending", "skipped"]


def test_progress_is_not_recovered(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user, event_type="all")
    (stale,) = plan_deliveries(user, webhook_id, 1, **SKIPPED)
    with transaction() as session:
        session.execute(update(WebhookDelivery).where(WebhookDelivery.id == stale).values(event_type="job.progress"))
    job_id, count = recover(ask, user, webhook_id)
    assert (count, run(user, job_id).result) == (0, {"count": 0})
    assert statuses([stale]) == ["skipped"]


def test_the_rate_is_kept_to(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    plan_deliveries(user, webhook_id, 6, **FAILED)
    job_id, _ = recover(ask, user, webhook_id, ratePerSecond=2)
    done = run(user, job_id)
    assert [report["current"] for report in done.progress] == [1, 2, 3, 4, 5, 6]
    # No time passes in this context while it sleeps: the n-th pause is the whole way from the start, less what the work
    # has taken.
    assert done.slept == pytest.approx(0.5 + 1 + 1.5 + 2 + 2.5 + 3, rel=0.4)


def test_the_next_attempt_goes_on_where_the_last_one_stopped(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    missed = plan_deliveries(user, webhook_id, 30, **FAILED)
    job_id, _ = recover(ask, user, webhook_id, ratePerSecond=100)
    assert run(user, job_id, stop_after=1).status == "queued"
    assert statuses(missed) == ["pending"] * 10 + ["failed"] * 20
    with transaction() as session:
        # They fail again behind its back.
        session.execute(update(WebhookDelivery).where(WebhookDelivery.id.in_(missed[:10])).values(status="failed"))
    lifecycle.lose_attempt(job_id, 1)
    assert start(job_id, 2) is not None
    assert run(user, job_id, attempt=2).result == {"count": 30}
    assert statuses(missed) == ["failed"] * 10 + ["pending"] * 20


def test_a_worker_that_lost_the_job_recovers_nothing_more(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    missed = plan_deliveries(user, webhook_id, 3, **FAILED)
    job_id, _ = recover(ask, user, webhook_id)
    lifecycle.lose_attempt(job_id, 1)
    with pytest.raises(LeaseLost):
        run(user, job_id)
    assert statuses(missed) == ["failed"] * 3


def test_a_cancel_ends_it_between_two_steps(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    missed = plan_deliveries(user, webhook_id, 3, **FAILED)
    job_id, _ = recover(ask, user, webhook_id, ratePerSecond=1)
    run(user, job_id, cancel_after=1).assert_cancelled()
    assert statuses(missed) == ["pending", "failed", "failed"]


def test_it_ends_when_the_endpoint_is_switched_off_meanwhile(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    missed = plan_deliveries(user, webhook_id, 2, **FAILED)
    job_id, _ = recover(ask, user, webhook_id, ratePerSecond=1)

    def switch_off(_: object) -> None:
        with transaction() as session:
            session.execute(update(Webhook).where(Webhook.id == webhook_id).values(active=False))

    run(user, job_id, on_progress=switch_off).assert_failed("webhook_is_off")
    assert statuses(missed) == ["pending", "failed"]
    assert not endpoint(webhook_id).active


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "since"),
        ({"since": "2026-01-01T00:00:00"}, "since"),
        ({"since": LONG_AGO, "until": LONG_AGO}, "until"),
        ({"since": LONG_AGO, "statuses": []}, "statuses"),
        ({"since": LONG_AGO, "statuses": ["delivered"]}, "statuses.0"),
        ({"since": LONG_AGO, "ratePerSecond": 0}, "ratePerSecond"),
        ({"since": LONG_AGO, "ratePerSecond": 1_001}, "ratePerSecond"),
        ({"since": LONG_AGO, "reached": {}}, "reached"),
    ],
)
def test_orders_that_are_none(ask: Ask, make_user: MakeUser, body: dict[str, Any], field: str) -> None:
    user = make_user()
    refused = ask(user, "POST", f"/api/webhooks/{make_endpoint(user)}/recover", body)
    assert (refused.status_code, list(refused.get_json()["errors"])) == (422, [field])


def test_the_job_is_for_ones_own_endpoints_however_it_is_submitted(ask: Ask, make_user: MakeUser) -> None:
    user, other = make_user(), make_user()
    webhook_id = make_endpoint(user)
    body = {"type": "webhook-recovery", "payload": {"webhookId": str(webhook_id), "since": LONG_AGO}}
    assert ask(user, "POST", "/api/jobs", body).status_code == 202
    assert ask(other, "POST", "/api/jobs", body).get_json()["code"] == "webhook_not_found"
    body["payload"]["reached"] = {"after": str(webhook_id), "count": 7}  # type: ignore[index]
    assert list(ask(user, "POST", "/api/jobs", body).get_json()["errors"]) == ["payload.reached"]
