"""Delivery: tasks that are woken, not told, and work until nothing is due. They run in the eventlet pool."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import cache, lru_cache
from typing import Any

import structlog
from eventlet.greenpool import GreenPool
from eventlet.queue import Empty, LightQueue
from redis.exceptions import RedisError

from service.clock import utcnow
from service.crypto import decrypt
from service.database import Row
from service.notifications.channel_messages import send_due_messages
from service.notifier.channels.webhook import DELIVERY_TASK
from service.queue import awake, celery_app
from service.settings import current_settings
from service.webhooks.guard import Guard
from service.webhooks.outbox import Attempted, claim_due, record_attempts
from service.webhooks.schedule import SCHEDULE, classify, next_delay
from service.webhooks.sender import OutboundRequest, Sender
from service.webhooks.signing import sign
from tasks.application import flask_app
from tasks.lease import until_written

log = structlog.get_logger(__name__)

# POSTs under way at once in one process, and rows claimed by one statement.
POSTS_AT_ONCE = 500
ROWS_AT_ONCE = 200
# Outcomes that arrive within this time are written together.
GATHER_SECONDS = 0.005


@celery_app.task(name=DELIVERY_TASK, ignore_result=True)
def deliver_webhooks() -> None:
    """Send every delivery that is due."""
    with flask_app().app_context():
        _note_awake(DELIVERY_TASK)
        outcomes: LightQueue = LightQueue()
        under_way = 0
        exhausted = False
        while under_way or not exhausted:
            free = min(ROWS_AT_ONCE, _posts().free())
            if not exhausted and free > 0:
                rows = claim_due(free)
                exhausted = len(rows) < free
                for row in rows:
                    under_way += 1
                    _posts().spawn_n(_deliver, row, outcomes)
            if under_way:
                gathered = list(_gather(outcomes))
                under_way -= len(gathered)
                until_written(lambda: record_attempts(gathered))  # noqa: B023 - called at once
            elif not exhausted:
                # Other runs of this task have all the places.
                _posts().sem.acquire()
                _posts().sem.release()


@celery_app.task(name="tasks.delivery.send_email", ignore_result=True)
def send_email() -> None:
    """Send every e-mail that is due."""
    with flask_app().app_context():
        _note_awake("tasks.delivery.send_email")
        send_due_messages()


def _note_awake(task_name: str) -> None:
    try:
        awake(task_name)
    except (RedisError, OSError) as error:
        # The key runs out by itself.
        log.warning("wake_not_cleared", error=str(error))


def _gather(outcomes: LightQueue) -> Iterator[Attempted]:
    """The next outcome, with those that follow at its heels."""
    yield outcomes.get()
    ends = time.monotonic() + GATHER_SECONDS
    while (left := ends - time.monotonic()) > 0:
        try:
            yield outcomes.get(timeout=left)
        except Empty:
            return


def _deliver(row: Row, outcomes: LightQueue) -> None:
    try:
        outcome = _attempt(row)
    except Exception:
        # The lease runs out and the delivery is tried again; the count of attempts goes up all the same.
        log.exception("delivery_broken", delivery_id=str(row["id"]))
        outcome = _outcome(row, "pending", delay=SCHEDULE[-1])
    outcomes.put(outcome)


def _attempt(row: Row) -> Attempted:
    if not row["active"]:
        return _outcome(row, "skipped")
    payload = json.loads(row["payload"])
    document = payload["data"] if row["payload_format"] == "flat" else payload
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    headers = sign([_secret(bytes(row["secret"]))], str(row["id"]), int(time.time()), body)
    answer = _sender().send(OutboundRequest(row["url"], body, {"Content-Type": "application/json", **headers}))
    verdict = classify(answer)
    delay = next_delay(row["attempts"], answer, SCHEDULE, random.Random())
    record = {
        "status_code": answer.status,
        "error_class": answer.error_class,
        "resolved_address": answer.address,
        "response_headers": answer.headers,
        "response_body": answer.body,
        "timings": {name: None if ms is None else round(ms, 3) for name, ms in answer.timings._asdict().items()},
    }
    if verdict == "success":
        return _outcome(row, "delivered", record=record)
    log.info("delivery_failed", delivery_id=str(row["id"]), status=answer.status, error_class=answer.error_class)
    if delay is None:
        return _outcome(row, "failed", record=record, disables=verdict == "gone")
    return _outcome(row, "pending", delay=delay, record=record)


def _outcome(
    row: Row,
    status: str,
    *,
    delay: float | None = None,
    disables: bool = False,
    record: dict[str, Any] | None = None,
) -> Attempted:
    return Attempted(
        delivery_id=str(row["id"]),
        webhook_id=str(row["webhook_id"]),
        attempt=row["attempts"],
        status=status,
        next_attempt_at=None if delay is None else utcnow() + timedelta(seconds=delay),
        disables=disables,
        record=record,
    )


@cache
def _posts() -> GreenPool:
    return GreenPool(POSTS_AT_ONCE)


@cache
def _sender() -> Sender:
    with flask_app().app_context():
        return Sender(Guard(current_settings().webhook_networks))


@lru_cache(maxsize=4096)
def _secret(encrypted: bytes) -> str:
    with flask_app().app_context():
        return decrypt(encrypted)
