"""Delivery: tasks that are woken, not told, and work until nothing is due. They run in the eventlet pool."""

from __future__ import annotations

import json
import random
import time
from datetime import timedelta
from functools import cache, lru_cache
from threading import Event
from typing import Any

import eventlet
import structlog
from celery.signals import worker_shutting_down
from eventlet.greenpool import GreenPool
from eventlet.queue import Empty, LightQueue
from redis.exceptions import RedisError

from service.clock import utcnow
from service.crypto import decrypt
from service.database import Row
from service.notifications.channel_messages import send_due_messages
from service.notifier.channels.webhook import DELIVERY_TASK
from service.queue import celery_app, fall_asleep, listen
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
# Outcomes that arrive within this time are written together. So are rows claimed together that come at such a pace; a
# row that comes alone is claimed at once.
GATHER_SECONDS = 0.02
BUSY_SECONDS = 0.01
# How long the task waits for more before it ends; while it waits, a wake-up costs no message and no new task.
LINGER_SECONDS = 1.0
LISTEN_SECONDS = 0.5

_stopping = Event()


@worker_shutting_down.connect
def stop_lingering(**_: object) -> None:
    """The worker shuts down: end as soon as what is under way has ended."""
    _stopping.set()


@celery_app.task(name=DELIVERY_TASK, ignore_result=True)
def deliver_webhooks() -> None:
    """Send every delivery that is due, and those that become due while it lingers."""
    with flask_app().app_context():
        outcomes: LightQueue = LightQueue()
        posts = GreenPool(POSTS_AT_ONCE)
        recorder = eventlet.spawn(_record, outcomes)
        quiet_since = time.monotonic()
        while not _stopping.is_set():
            if _claim(posts, outcomes):
                quiet_since = time.monotonic()
            if _bell_rings(DELIVERY_TASK):
                if time.monotonic() - quiet_since < BUSY_SECONDS:
                    eventlet.sleep(GATHER_SECONDS)
            elif time.monotonic() - quiet_since >= LINGER_SECONDS and not _slept_through(DELIVERY_TASK):
                break
        posts.waitall()
        outcomes.put(None)
        recorder.wait()


def _claim(posts: GreenPool, outcomes: LightQueue) -> int:
    """Begin to send what is due, as far as there are places; how many."""
    begun = 0
    while (free := min(ROWS_AT_ONCE, posts.free())) > 0:
        rows = claim_due(free)
        for row in rows:
            posts.spawn_n(_deliver, row, outcomes)
        begun += len(rows)
        if len(rows) < free:
            break
    return begun


def _bell_rings(task_name: str) -> bool:
    try:
        return listen(task_name, LISTEN_SECONDS)
    except (RedisError, OSError):
        # Without a bell the rows are looked for at this pace.
        eventlet.sleep(LISTEN_SECONDS)
        return False


def _slept_through(task_name: str) -> bool:
    try:
        return fall_asleep(task_name)
    except (RedisError, OSError):
        return False


def _record(outcomes: LightQueue) -> None:
    """Write what comes of the attempts, many at a time, until None comes."""
    with flask_app().app_context():
        while (first := outcomes.get()) is not None:
            gathered = [first]
            ends = time.monotonic() + GATHER_SECONDS
            while (left := ends - time.monotonic()) > 0:
                try:
                    following = outcomes.get(timeout=left)
                except Empty:
                    break
                if following is None:
                    # The end: put back for the outer loop.
                    outcomes.put(None)
                    break
                gathered.append(following)
            until_written(lambda: record_attempts(gathered))  # noqa: B023 - called at once


@celery_app.task(name="tasks.delivery.send_email", ignore_result=True)
def send_email() -> None:
    """Send every e-mail that is due."""
    with flask_app().app_context():
        while send_due_messages() or _slept_through("tasks.delivery.send_email"):
            continue


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
def _sender() -> Sender:
    with flask_app().app_context():
        return Sender(Guard(current_settings().webhook_networks))


@lru_cache(maxsize=4096)
def _secret(encrypted: bytes) -> str:
    with flask_app().app_context():
        return decrypt(encrypted)
