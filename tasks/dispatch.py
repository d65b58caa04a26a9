"""Sending the jobs that were held back: one task, awake while there are any."""

from __future__ import annotations

import time
from datetime import datetime

import structlog
from sqlalchemy.exc import OperationalError

from service.clock import utcnow
from service.queue import BROKER_ERRORS, DISPATCH_TASK, celery_app, fall_asleep, listen
from service.queues.dispatch import Windows, dispatch
from tasks.application import flask_app
from tasks.lease import stopping

log = structlog.get_logger(__name__)

# Starting a task costs more than waiting a little for the next bell.
LINGER_SECONDS = 1.0
# Looking more often than this finds little new, and still less where more jobs wait than may be sent: then until half
# of the messages ahead of the workers are gone.
GATHER_SECONDS = 0.025
BACKLOG_SECONDS = 0.25

_windows = Windows()


@celery_app.task(name=DISPATCH_TASK, ignore_result=True, send_events=False)  # type: ignore[untyped-decorator]  # Celery publishes no types
def dispatch_jobs() -> None:
    """Send held jobs whenever somebody rings, until nobody has for a while."""
    with flask_app().app_context():
        try:
            _attend()
        except (OperationalError, *BROKER_ERRORS) as error:
            # The tick rings again.
            log.warning("dispatch_interrupted", error=str(error).splitlines()[0])


def _attend() -> None:
    while not stopping.is_set():
        began = time.monotonic()
        passed = dispatch(_windows)
        if passed.parked:
            # Behind the parked ones there may be others.
            continue
        listened = time.monotonic()
        rings = listen(DISPATCH_TASK, _pause(passed.next_start))
        _windows.rest(time.monotonic() - listened)
        if not rings and not _is_near(passed.next_start):
            if fall_asleep(DISPATCH_TASK):
                continue
            return
        pause = 0.0 if passed.lasts is None else min(passed.lasts / 2, BACKLOG_SECONDS)
        time.sleep(max(0.0, began + max(pause, GATHER_SECONDS) - time.monotonic()))
    # The next worker must not take this task for awake.
    fall_asleep(DISPATCH_TASK)


def _pause(next_start: datetime | None) -> float:
    """Seconds to wait for the bell: no longer than until a rate lets go of the next job."""
    if next_start is None:
        return LINGER_SECONDS
    return min(max((next_start - utcnow()).total_seconds(), GATHER_SECONDS), LINGER_SECONDS)


def _is_near(next_start: datetime | None) -> bool:
    return next_start is not None and (next_start - utcnow()).total_seconds() < LINGER_SECONDS
