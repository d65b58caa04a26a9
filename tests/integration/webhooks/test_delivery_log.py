"""The delivery log: what was sent and what came of it, searched, and one delivery sent anew."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import select, text, update

from service.audit.models import AuditEntry
from service.clock import isoformat, utcnow
from service.database import db, fetch_all, transaction
from service.ids import first_id_at, new_id
from service.notifier.channels.webhook import DELIVERY_TASK
from service.redis_client import redis
from service.webhooks.models import Webhook, WebhookAttempt, WebhookDelivery
from service.webhooks.outbox import claim_due
from service.webhooks.queries import LISTED_BODY_LIMIT, DeliveryFilter
from service.webhooks.schemas import DeliverySchema
from tests.acceptance.receiver import Receiver
from tests.conftest import Account, MakeUser
from tests.factories.jobs import run_a_job
from tests.factories.webhooks import delivery, endpoint, make_endpoint, plan_deliveries
from tests.integration.webhooks.conftest import Ask, Deliver

pytestmark = pytest.mark.usefixtures("in_app")


def listed(ask: Ask, user: Account, webhook_id: UUID, query: str = "") -> list[UUID]:
    answer = ask(user, "GET", f"/api/webhooks/{webhook_id}/deliveries{query}")
    assert answer.status_code == 200, answer.get_json()
    return [UUID(each["id"]) for each in answer.get_json()["data"]]


def planned_at(user: Account, webhook_id: UUID, moment: datetime, **fields: Any) -> UUID:
    """A delivery of an event of this moment."""
    (made,) = plan_deliveries(user, webhook_id, 1, **fields)
    moved = UUID(int=first_id_at(moment).int | made.int % 2**60)
    with transaction() as session:
        session.execute(update(WebhookDelivery).where(WebhookDelivery.id == made).values(id=moved))
    return moved


def attempted(delivery_id: UUID, attempts: int = 1, **fields: Any) -> None:
    """Attempts at a delivery, on record."""
    with transaction() as session:
        for attempt in range(1, attempts + 1):
            session.add(WebhookAttempt(delivery_id=delivery_id, attempt=attempt, timings={"total": 1.5}, **fields))


def bell_was_rung() -> bool:
    return redis().lpop(f"carillon:bell:{DELIVERY_TASK}") is not None


def test_an_attempt_shows_the_request_and_the_answer(
    app: Flask, ask: Ask, deliver: Deliver, receiver: Receiver, make_user: MakeUser
) -> None:
    user = make_user()
    for payload_format in ("standard", "flat"):
        webhook_id = make_endpoint(user, url=f"{receiver.url}/{payload_format}", payload_format=payload_format)
        job_id = run_a_job(app, user)
        deliver(webhook_id)
        (told,) = ask(user, "GET", f"/api/webhooks/{webhook_id}/deliveries").get_json()["data"]
        assert not DeliverySchema().validate(told)
        assert (told["webhookId"], told["jobId"], told["statusCode"]) == (str(webhook_id), str(job_id), 204)
        (attempt,) = told["attempts"]
        post = receiver.posts()[-1]
        request = attempt["request"]
        assert (request["method"], request["url"]) == ("POST", f"{receiver.url}/{payload_format}")
        assert request["body"].encode() == post.body
        assert request["headers"]["webhook-signature"] == post.headers["webhook-signature"]
        assert attempt["statusCode"] == 204
        assert ask(user, "GET", f"/api/webhook-deliveries/{told['id']}").get_json() == told
        with transaction() as session:
            session.execute(update(Webhook).where(Webhook.id == webhook_id).values(active=False))


def test_a_format_that_was_changed_since_does_not_change_what_was_sent(
    app: Flask, ask: Ask, deliver: Deliver, receiver: Receiver, make_user: MakeUser
) -> None:
    user = make_user()
    webhook_id = make_endpoint(user, url=receiver.url, payload_format="flat")
    run_a_job(app, user)
    deliver(webhook_id)
    ask(user, "PATCH", f"/api/webhooks/{webhook_id}", {"payloadFormat": "standard"})
    (told,) = ask(user, "GET", f"/api/webhooks/{webhook_id}/deliveries").get_json()["data"]
    assert told["attempts"][0]["request"]["body"].encode() == receiver.posts()[0].body


def test_a_long_body_is_shown_by_the_delivery_itself_only(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    # One that is stored in little room, and one that is not.
    texts = ["x" * LISTED_BODY_LIMIT, "".join(str(new_id()) for _ in range(2_000))]
    sent = {"request_url": "https://example.com/", "request_headers": {}, "payload_format": "standard"}
    for body in texts:
        (delivery_id,) = plan_deliveries(user, webhook_id, 1)
        with transaction() as session:
            payload = {"type": "job.completed", "data": {"result": body}}
            session.execute(update(WebhookDelivery).where(WebhookDelivery.id == delivery_id).values(payload=payload))
        attempted(delivery_id, status_code=500, **sent)
        one = ask(user, "GET", f"/api/webhook-deliveries/{delivery_id}").get_json()
        assert json.loads(one["attempts"][0]["request"]["body"])["data"]["result"] == body
    for told in ask(user, "GET", f"/api/webhooks/{webhook_id}/deliveries").get_json()["data"]:
        assert told["attempts"][0]["request"]["body"] is None


def test_attempts_of_the_time_before_requests_were_kept(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    (delivery_id,) = plan_deliveries(user, make_endpoint(user), 1)
    attempted(delivery_id, status_code=500)
    told = ask(user, "GET", f"/api/webhook-deliveries/{delivery_id}").get_json()
    assert not DeliverySchema().validate(told)
    assert told["attempts"][0]["request"] is None


def test_the_log_is_searched(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    states: list[dict[str, Any]] = [
        {"status": "delivered", "status_code": 204},
        {"status": "failed", "status_code": 503},
        {"status": "failed", "status_code": 404},
        {"status": "failed", "status_code": None},
        {"status": "skipped", "next_attempt_at": None},
        {"status": "pending", "in_backlog": True},
        {"status": "pending", "status_code": 500},
        {"status": "delivering"},
    ]
    ids = [plan_deliveries(user, webhook_id, 1, **state)[0] for state in states]
    delivered, five, four, unanswered, skipped, waiting, retrying, under_way = ids
    plan_deliveries(user, make_endpoint(user), 1, status="failed")
    with transaction() as session:
        session.execute(update(WebhookDelivery).where(WebhookDelivery.id == four).values(event_type="job.failed"))
    for query, found in {
        "": ids,
        "?status=delivered": [delivered],
        "?status=failed": [five, four, unanswered],
        "?status=skipped": [skipped],
        "?status=pending": [waiting, retrying],
        "?status=delivering": [under_way],
        "?code=503": [five],
        "?code=5xx": [five, retrying],
        "?code=2xx": [delivered],
        "?code=none": [unanswered, skipped, waiting, under_way],
        "?status=failed&code=none": [unanswered],
        "?eventType=failed": [four],
        "?eventType=job.failed": [four],
        "?status=failed&eventType=completed&code=5xx": [five],
        "?limit=3": ids[-3:],
        f"?status=failed&cursor={unanswered}": [five, four],
    }.items():
        assert listed(ask, user, webhook_id, query) == found[::-1], query


def test_the_log_is_searched_by_the_time_of_the_event(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    noon = utcnow().replace(microsecond=0) + timedelta(hours=1)
    before, at, after = (planned_at(user, webhook_id, noon + timedelta(milliseconds=each)) for each in (-1, 0, 1))
    moment, later = isoformat(noon), isoformat(noon + timedelta(milliseconds=1))
    assert listed(ask, user, webhook_id, f"?since={moment}") == [after, at]
    assert listed(ask, user, webhook_id, f"?until={moment}") == [before]
    assert listed(ask, user, webhook_id, f"?since={moment}&until={later}") == [at]


@pytest.mark.parametrize(
    "query",
    [
        "status=lost",
        "code=99",
        "code=600",
        "code=5XX",
        "code=",
        "eventType=all",
        "since=today",
        "since=2026-01-01T00:00:00",
    ],
)
def test_filters_that_are_none(ask: Ask, make_user: MakeUser, query: str) -> None:
    user = make_user()
    refused = ask(user, "GET", f"/api/webhooks/{make_endpoint(user)}/deliveries?{query}")
    assert (refused.status_code, list(refused.get_json()["errors"])) == (422, [query.partition("=")[0]])


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (DeliveryFilter(), "webhook_id_id_idx"),
        (DeliveryFilter(status="failed"), "webhook_id_status_id_idx"),
        (DeliveryFilter(code="503"), "webhook_id_status_code_id_idx"),
        (DeliveryFilter(since=utcnow()), "webhook_id_id_idx"),
    ],
    ids=["all", "status", "code", "time"],
)
def test_each_search_has_its_index(wanted: DeliveryFilter, index: str) -> None:
    query = select(WebhookDelivery.id).where(WebhookDelivery.webhook_id == new_id(), *wanted.conditions())
    newest = query.order_by(WebhookDelivery.id.desc()).limit(20)
    with transaction() as session:
        # Tables of tests are too short for any index; what is asked here is whether one fits.
        session.execute(text("SET LOCAL enable_seqscan = off"))
        session.execute(text("SET LOCAL enable_sort = off"))
        rendered = str(newest.compile(db.engine, compile_kwargs={"literal_binds": True}))
        plan = "\n".join(session.scalars(text(f"EXPLAIN {rendered}")))
    assert index in plan
    assert "Filter" not in plan


def test_a_sample_goes_to_one_endpoint_at_once(
    ask: Ask, deliver: Deliver, receiver: Receiver, make_user: MakeUser
) -> None:
    user = make_user()
    webhook_id = make_endpoint(user, url=receiver.url, event_type="failed")
    other = make_endpoint(user, event_type="all")
    bell_was_rung()
    answer = ask(user, "POST", f"/api/webhooks/{webhook_id}/test")
    told = answer.get_json()
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/api/webhook-deliveries/{told['id']}")
    assert (told["status"], told["eventType"], told["attempts"]) == ("pending", "webhook.test", [])
    assert bell_was_rung()
    assert deliver(webhook_id) == 1
    (post,) = receiver.posts()
    assert (post.webhook_id, post.type) == (told["id"], "webhook.test")
    assert post.document["data"]["webhookId"] == str(webhook_id)
    assert ask(user, "GET", answer.headers["Location"]).get_json()["status"] == "delivered"
    assert listed(ask, user, other) == []


@pytest.mark.parametrize(
    ("payload_format", "event_type", "type_", "keys"),
    [
        ("standard", "progress", "job.progress", {"type", "timestamp", "data"}),
        ("standard", "notification", "notification.created", {"type", "timestamp", "data"}),
        ("flat", "progress", "job.progress", {"id", "jobname", "userId", "progress"}),
        ("flat", None, "job.completed", {"id", "jobname", "userId", "result"}),
    ],
)
def test_the_sample_is_of_the_event_that_is_asked_for(
    ask: Ask,
    deliver: Deliver,
    receiver: Receiver,
    make_user: MakeUser,
    payload_format: str,
    event_type: str | None,
    type_: str,
    keys: set[str],
) -> None:
    user = make_user()
    webhook_id = make_endpoint(user, url=receiver.url, payload_format=payload_format)
    body = {} if event_type is None else {"eventType": event_type}
    told = ask(user, "POST", f"/api/webhooks/{webhook_id}/test", body).get_json()
    assert (told["eventType"], told["jobId"]) == (type_, None)
    deliver(webhook_id)
    assert set(receiver.posts()[0].document) == keys


def test_no_sample_goes_to_an_endpoint_that_is_off(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user, active=False)
    refused = ask(user, "POST", f"/api/webhooks/{webhook_id}/test")
    assert (refused.status_code, refused.get_json()["code"]) == (409, "webhook_disabled")
    assert listed(ask, user, webhook_id) == []
    assert ask(user, "POST", f"/api/webhooks/{webhook_id}/test", {"eventType": "all"}).status_code == 422


@pytest.mark.parametrize("status", ["failed", "skipped", "delivered", "pending"])
def test_a_delivery_is_sent_anew_under_its_id(
    ask: Ask, deliver: Deliver, receiver: Receiver, make_user: MakeUser, status: str
) -> None:
    user = make_user()
    webhook_id = make_endpoint(user, url=receiver.url)
    state = {"status": status, "attempts": 8, "next_attempt_at": utcnow() + timedelta(hours=1)}
    (delivery_id,) = plan_deliveries(user, webhook_id, 1, **state)
    bell_was_rung()
    answer = ask(user, "POST", f"/api/webhook-deliveries/{delivery_id}/resend")
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/api/webhook-deliveries/{delivery_id}")
    assert answer.get_json()["status"] == "pending"
    assert bell_was_rung()
    assert delivery(delivery_id).free_attempts == 8, "the whole schedule lies before it"
    assert deliver(webhook_id) == 1
    assert receiver.posts()[0].webhook_id == str(delivery_id)
    told = ask(user, "GET", f"/api/webhook-deliveries/{delivery_id}").get_json()
    assert (told["status"], told["attempts"][-1]["attempt"]) == ("delivered", 9)
    entry = db.session.scalars(select(AuditEntry).where(AuditEntry.action == "webhook.resend")).all()[-1]
    assert (entry.actor_id, entry.details) == (user.id, {"deliveryId": str(delivery_id)})


def test_it_waits_behind_the_backlog_of_its_endpoint(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user, backlog_at=utcnow())
    (delivery_id,) = plan_deliveries(user, webhook_id, 1, status="failed")
    ask(user, "POST", f"/api/webhook-deliveries/{delivery_id}/resend")
    assert delivery(delivery_id).in_backlog


def test_what_cannot_be_sent_anew(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    (delivery_id,) = plan_deliveries(user, webhook_id, 1)
    path = f"/api/webhook-deliveries/{delivery_id}/resend"
    claim_due(100_000, 100_000, {})
    under_way = ask(user, "POST", path)
    assert (under_way.status_code, under_way.get_json()["code"]) == (409, "delivery_under_way")
    ask(user, "PATCH", f"/api/webhooks/{webhook_id}", {"active": False})
    off = ask(user, "POST", path)
    assert (off.status_code, off.get_json()["code"]) == (409, "webhook_disabled")
    # A log that outlived its endpoint, as one that was deleted at the same moment may.
    with transaction():
        fetch_all("DELETE FROM webhooks WHERE id = %(id)s", {"id": str(webhook_id)})
    assert ask(user, "POST", path).status_code == 404
    assert delivery(delivery_id).status == "delivering"


def test_other_peoples_deliveries(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    operator = make_user(("admin", "operator"), organization=user.organization_id)
    stranger = make_user()
    webhook_id = make_endpoint(user)
    (delivery_id,) = plan_deliveries(user, webhook_id, 1, status="failed")
    for method, path, body in (
        ("GET", f"/api/webhook-deliveries/{delivery_id}", None),
        ("POST", f"/api/webhook-deliveries/{delivery_id}/resend", None),
        ("POST", f"/api/webhooks/{webhook_id}/test", None),
        ("POST", f"/api/webhooks/{webhook_id}/rotate-secret", None),
        ("POST", f"/api/webhooks/{webhook_id}/recover", {"since": "2026-01-01T00:00:00Z"}),
    ):
        for who, status in ((operator, 403), (stranger, 404)):
            assert ask(who, method, path, body).status_code == status, (method, path)
    assert ask(user, "GET", f"/api/webhook-deliveries/{new_id()}").get_json()["code"] == "webhook_delivery_not_found"
    assert delivery(delivery_id).status == "failed"
    assert endpoint(webhook_id).active
