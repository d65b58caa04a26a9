"""Delivery: tasks that are woken, not told, and work until nothing is due. They run in the eventlet pool."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import cache
from threading import Event

import eventlet
import structlog
from celery.signals import worker_shutting_down
from eventlet.greenpool import GreenPool
from eventlet.queue import LightQueue
from redis.exceptions import RedisError

from service.clock import utcnow
from service.database import Row
from service.notifications.channel_messages import OUTSIDE, SEND_TASK, send_due_messages
from service.notifier.channels.webhook import DELIVERY_TASK
from service.queue import celery_app, fall_asleep, listen
from service.settings import current_settings
from service.webhooks.attempt import attempt
from service.webhooks.backlog import Room, claim_backlogs
from service.webhooks.circuits import Circuits, Report
from service.webhooks.guard import Guard
from service.webhooks.outbox import Attempted, claim_due, record_attempts
from service.webhooks.places import Places
from service.webhooks.proxy import Proxy
from service.webhooks.sender import Sender
from tasks.application import flask_app
from tasks.lease import DATABASE_AWAY, until_written

log = structlog.get_logger(__name__)

# POSTs under way at once in one process, and rows claimed by one statement.
POSTS_AT_ONCE = 500
ROWS_AT_ONCE = 200
# Outcomes that arrive within this time are written together.
GATHER_SECONDS = 0.02
# So are rows claimed together that come at this pace; a row that comes alone is claimed at once. The busier the
# machine, the longer claims take, and the more rows one of them is to serve.
PACE_SECONDS = 0.01
MOST_PACE_SECONDS = 0.025
CLAIM_SHARE = 0.3
# How long the task waits for more before it ends; while it waits, a wake-up costs no message and no new task.
LINGER_SECONDS = 1.0
LISTEN_SECONDS = 0.5
# What other processes found out is read this often.
AROUND_SECONDS = 0.5
# A circuit that is open is looked at again after this, at the latest.
CIRCUIT_LOOK = timedelta(seconds=5)
# Verdicts that say that the endpoint does not answer as it should; a refusal is an answer.
UNWELL = frozenset({"transient"})

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
        # Monotonic: when backlogs are worth a look, as far as this process knows.
        self.backlogs_at = 0.0
        self._circuits = Circuits()
        self._looked_around_at = float("-inf")

    def claim(self) -> int:
        """Begin to send what is due, as far as this process and the endpoints have places; how many were looked at."""
        self._look_around()
        seen = 0
        while (free := min(ROWS_AT_ONCE, _places().free)) > 0:
            room = {**_places().unusual(), **dict.fromkeys(self._circuits.broken, 0)}
            claimed = claim_due(free, _places().first, room)
            self._begin(claimed.rows)
            if claimed.met_backlog:
                self.backlogs_at = 0.0
            seen += claimed.seen
            if claimed.seen < free:
                break
        return seen

    def claim_backlogs(self) -> int:
        """Begin to send what waited for its endpoint; how many."""
        free = min(ROWS_AT_ONCE, _places().free)
        if not free or time.monotonic() < self.backlogs_at:
            return 0
        rows, seconds = claim_backlogs(free, self._room)
        self.backlogs_at = time.monotonic() + seconds
        self._begin(rows)
        return len(rows)

    def _room(self, endpoint: str) -> Room:
        if endpoint not in self._circuits.broken:
            return Room(_places().room(endpoint))
        if self._circuits.probe(endpoint):
            return Room(1)
        at = self._circuits.opens_at(endpoint)
        # What else may close it before: another delivery, another URL, a Redis that comes back empty.
        return Room(0, None if at is None else min(at, utcnow() + CIRCUIT_LOOK))

    def _begin(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.under_way += 1
            _places().take(str(row["webhook_id"]))
            _posts().spawn_n(self._deliver, row)

    def _deliver(self, row: Row) -> None:
        with flask_app().app_context():
            outcome = attempt(row, _sender())
        _places().leave(outcome.webhook_id, is_well=outcome.verdict not in UNWELL)
        self.outcomes.put(outcome)
        self.under_way -= 1

    def _look_around(self) -> None:
        """See what other processes have done to circuits and backlogs."""
        if time.monotonic() - self._looked_around_at > AROUND_SECONDS:
            self._circuits.refresh()
            self.backlogs_at = 0.0
            self._looked_around_at = time.monotonic()

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
                try:
                    self._circuits.report(_reports(gathered))
                except Exception:
                    # What is recorded must not depend on it.
                    log.exception("circuits_not_told")


def _reports(gathered: Iterable[Attempted]) -> dict[str, Report]:
    """What the circuits are to know of these attempts."""
    reports: dict[str, Report] = {}
    for each in gathered:
        if each.verdict in ("internal", "proxy"):
            continue
        known = reports.get(each.webhook_id, Report(0, 0))
        failed = each.verdict in UNWELL
        reports[each.webhook_id] = Report(
            known.succeeded + (not failed), known.failed + failed, max(known.wait, each.retry_after)
        )
    return reports


@celery_app.task(name=DELIVERY_TASK, ignore_result=True)
def deliver_webhooks() -> None:
    """Send every delivery that is due, and those that become due while it lingers."""
    with flask_app().app_context():
        this = _Round()
        recorder = eventlet.spawn(this.record)
        _attend(this)
        if _stopping.is_set():
            # The next worker must not be taken for awake.
            _slept_through(DELIVERY_TASK)
        while this.under_way:
            eventlet.sleep(GATHER_SECONDS)
        this.outcomes.put(None)
        recorder.wait()


def _attend(this: _Round) -> None:
    """Look for work until there is none for a while."""
    busy_at = time.monotonic()
    while not _stopping.is_set():
        begun, pause = 0, PACE_SECONDS
        try:
            began_at = time.monotonic()
            begun = this.claim()
            pause = min(max(PACE_SECONDS, (time.monotonic() - began_at) / CLAIM_SHARE), MOST_PACE_SECONDS)
            begun += this.claim_backlogs()
        except DATABASE_AWAY as error:
            log.warning("claim_postponed", error=str(error).splitlines()[0])
        # Without a place there is no telling whether anything is due.
        if begun or _places().free == 0:
            busy_at = time.monotonic()
        if _bell_rings(min(max(this.backlogs_at - time.monotonic(), GATHER_SECONDS), LISTEN_SECONDS)):
            if time.monotonic() - busy_at < pause:
                eventlet.sleep(pause)
        elif time.monotonic() - busy_at >= LINGER_SECONDS and not _slept_through(DELIVERY_TASK):
            return


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


@cache
def _places() -> Places:
    with flask_app().app_context():
        return Places(POSTS_AT_ONCE, current_settings().webhook_concurrency)


@cache
def _sender() -> Sender:
    with flask_app().app_context():
        settings = current_settings()
        proxy = None if settings.webhook_proxy_url is None else Proxy(settings.webhook_proxy_url)
        return Sender(Guard(settings.webhook_networks), proxy=proxy)


def _bell_rings(seconds: float) -> bool:
    try:
        return listen(DELIVERY_TASK, seconds)
    except (RedisError, OSError):
        # Without a bell the rows are looked for at this pace.
        eventlet.sleep(LISTEN_SECONDS)
        return False


def _slept_through(task_name: str) -> bool:
    try:
        return fall_asleep(task_name)
    except (RedisError, OSError):
        return False


@celery_app.task(name=SEND_TASK, ignore_result=True)
def send_messages() -> None:
    """Send every message that is due; no channel waits for another one's providers."""
    channels = GreenPool(len(OUTSIDE))
    with flask_app().app_context():
        while sum(channels.imap(_send_by, OUTSIDE)) or _slept_through(SEND_TASK):
            continue


def _send_by(channel: str) -> int:
    with flask_app().app_context():
        return send_due_messages(channel)
