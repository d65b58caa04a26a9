"""Delivery: tasks that are woken, not told, and work until nothing is due. They run in the eventlet pool."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import cache, lru_cache
from threading import Event
from typing import Any

import eventlet
import structlog
from celery.signals import worker_shutting_down
from eventlet.greenpool import GreenPool
from eventlet.queue import LightQueue
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
from tasks.lease import DATABASE_AWAY, until_written

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


class _Round:
    """One run of the delivery task: what it has under way, and what came of it."""

    def __init__(self) -> None:
        self.outcomes: LightQueue = LightQueue()
        self.under_way = 0

    def claim(self) -> int:
        """Begin to send what is due, as far as this process has places; how many."""
        begun = 0
        while (free := min(ROWS_AT_ONCE, _posts().free())) > 0:
            rows = claim_due(free)
            for row in rows:
                self.under_way += 1
                _posts().spawn_n(self._deliver, row)
            begun += len(rows)
            if len(rows) < free:
                break
        return begun

    def _deliver(self, row: Row) -> None:
        try:
            outcome = _attempt(row)
        except Exception:
            log.exception("delivery_broken", delivery_id=str(row["id"]))
            outcome = _broken(row)
        self.outcomes.put(outcome)
        self.under_way -= 1

    def record(self) -> None:
        """Write what comes of the attempts, many at a time, until None comes."""
        with flask_app().app_context():
            while (first := self.outcomes.get()) is not None:
                eventlet.sleep(GATHER_SECONDS)
                gathered = [first]
                while not self.outcomes.empty():
                    following = self.outcomes.get_nowait()
                    if following is None:
                        # The end: put back for the outer loop.
                        self.outcomes.put(None)
                        break
                    gathered.append(following)
                _write(gathered)


@celery_app.task(name=DELIVERY_TASK, ignore_result=True)
def deliver_webhooks() -> None:
    """Send every delivery that is due, and those that become due while it lingers."""
    with flask_app().app_context():
        this = _Round()
        recorder = eventlet.spawn(this.record)
        quiet_since = time.monotonic()
        while not _stopping.is_set():
            try:
                begun = this.claim()
            except DATABASE_AWAY as error:
                log.warning("claim_postponed", error=str(error).splitlines()[0])
                begun = 0
            # Without a place there is no telling whether anything is due.
            if begun or _posts().free() == 0:
                quiet_since = time.monotonic()
            if _bell_rings(DELIVERY_TASK):
                if time.monotonic() - quiet_since < BUSY_SECONDS:
                    eventlet.sleep(GATHER_SECONDS)
            elif time.monotonic() - quiet_since >= LINGER_SECONDS and not _slept_through(DELIVERY_TASK):
                break
        if _stopping.is_set():
            # The next worker must not be taken for awake.
            _slept_through(DELIVERY_TASK)
        while this.under_way:
            eventlet.sleep(GATHER_SECONDS)
        this.outcomes.put(None)
        recorder.wait()


def _write(gathered: Sequence[Attempted]) -> None:
    try:
        until_written(lambda: record_attempts(gathered))
    except Exception:
        # One that the database refuses must not take the others along.
        log.exception("outcomes_not_recorded", count=len(gathered))
        for each in gathered:
            try:
                record_attempts([each])
            except Exception:
                log.exception("outcome_not_recorded", delivery_id=each.delivery_id)


@cache
def _posts() -> GreenPool:
    return GreenPool(POSTS_AT_ONCE)


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


@celery_app.task(name="tasks.delivery.send_email", ignore_result=True)
def send_email() -> None:
    """Send every e-mail that is due."""
    with flask_app().app_context():
        while send_due_messages() or _slept_through("tasks.delivery.send_email"):
            continue


def _broken(row: Row) -> Attempted:
    """What could not even be tried, for a key that is gone or a fault of ours: tried again, and in the end failed."""
    record = {"error_class": "internal_error", "timings": {}}
    if row["attempts"] >= len(SCHEDULE):
        return _outcome(row, "failed", record=record)
    return _outcome(row, "pending", delay=SCHEDULE[row["attempts"]], record=record)


def _flat(data: dict[str, Any]) -> dict[str, Any]:
    """The body that S0's receivers know, where progress is a number."""
    progress = data.get("progress")
    return data if progress is None else {**data, "progress": progress["percentage"]}


def _attempt(row: Row) -> Attempted:
    if not row["active"]:
        return _outcome(row, "skipped")
    payload = json.loads(row["payload"])
    document = _flat(payload["data"]) if row["payload_format"] == "flat" else payload
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
