"""The tick of schedules: submits the jobs of the times that have come.

Each time is dealt with in a transaction of its own that submits its job and moves the schedule on. It begins with a
claim of the schedule as it was when the tick looked: a second tick, or one that comes back after a crash, finds it
moved on, and does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID
from zoneinfo import ZoneInfoNotFoundError

import structlog
from sqlalchemy import select
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.audit.actions import record
from service.clock import utcnow
from service.database import transaction
from service.errors import CarillonError
from service.jobs.errors import DuplicateJob
from service.jobs.submission import submit_job
from service.schedules.misfires import due_runs
from service.schedules.models import Schedule
from service.schedules.outcomes import FAILED, SKIPPED
from service.schedules.overlap import without_overlap
from service.schedules.queries import timing_of
from service.schedules.runs import has_run, note_accepted, note_run, submission_for
from service.schedules.times import BadExpression, next_times

log = structlog.get_logger(__name__)

BATCH = 100
# A schedule that fails so often in a row is paused.
FAILURES_ALLOWED = 10
MAXIMUM_MESSAGE_LENGTH = 1_000

# That the database is away is no schedule's fault.
DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)

Act = Callable[[Schedule, datetime], None]


def run_due() -> None:
    """Deal with every schedule whose time has come."""
    # What becomes due meanwhile is the next tick's: otherwise a crowd of short intervals would keep this one for ever.
    now = utcnow()
    while sum(_catch_up(schedule_id, due_at, now) for schedule_id, due_at in _due(now)) == BATCH:
        continue


def _due(now: datetime) -> list[tuple[UUID, datetime]]:
    with transaction() as session:
        rows = session.execute(
            select(Schedule.id, Schedule.next_run_at)
            .where(Schedule.paused_at.is_(None), Schedule.next_run_at <= now)
            .order_by(Schedule.next_run_at)
            .limit(BATCH)
        )
        return [(schedule_id, due_at) for schedule_id, due_at in rows if due_at is not None]


def _catch_up(schedule_id: UUID, due_at: datetime, now: datetime) -> bool:
    """Deal with every time of a schedule that has come; False where another tick does."""
    rest = _step(schedule_id, due_at, now)
    moved = rest is not None
    while rest:
        rest = _step(schedule_id, rest[0], now)
    return moved


def _step(schedule_id: UUID, due_at: datetime, now: datetime) -> Sequence[datetime] | None:
    """Deal with the first of the times that are to be run; the times after it, or None where another tick does."""
    try:
        return _advance(schedule_id, due_at, now, _submit)
    except DATABASE_AWAY:
        raise
    except DuplicateJob as error:
        # That is what its unique key is for.
        refuse: Act = partial(_note_skipped, reason=error.message)
    except (BadExpression, ZoneInfoNotFoundError) as error:
        # Not accepted by this version, or by its time zones: there is nothing to move on to.
        log.exception("schedule_broken", schedule_id=str(schedule_id))
        return _give_up(schedule_id, due_at, f"The times cannot be computed: {error}")
    except Exception as error:
        if not isinstance(error, CarillonError):
            log.exception("schedule_failed", schedule_id=str(schedule_id))
        refuse = partial(_note_failed, reason=_reason(error))
    # Nothing of what was begun is left, so the schedule moves on by itself.
    return _advance(schedule_id, due_at, now, refuse)


def _claimed(schedule_id: UUID, due_at: datetime) -> Schedule | None:
    """The schedule, locked, if its next time is still this one and nobody else deals with it."""
    with transaction() as session:
        return session.scalar(
            select(Schedule)
            .where(Schedule.id == schedule_id, Schedule.paused_at.is_(None), Schedule.next_run_at == due_at)
            .with_for_update(skip_locked=True)
            .execution_options(populate_existing=True)
        )


def _advance(schedule_id: UUID, due_at: datetime, now: datetime, act: Act) -> Sequence[datetime] | None:
    """Deal with the first time that is to be run by `act`, and move on to the next; the times after it."""
    with transaction():
        schedule = _claimed(schedule_id, due_at)
        if schedule is None:
            return None
        timing = timing_of(schedule)
        policy, limit = schedule.misfire_policy, schedule.misfire_limit
        runs = due_runs(timing, due_at, now, policy=policy, limit=limit)
        rest = runs[1:]
        if runs and not has_run(schedule_id, runs[0]):
            act(schedule, runs[0])
        if schedule.paused_at is not None:
            return []
        schedule.next_run_at = next(iter(rest or next_times(timing, now, 1)), None)
    return rest


def _submit(schedule: Schedule, fire_time: datetime) -> None:
    submission = without_overlap(schedule.id, schedule.overlap_policy, submission_for(schedule))
    if submission is None:
        note_run(schedule, fire_time, SKIPPED)
        return
    accepted = submit_job(submission, organization_id=schedule.organization_id, user_id=schedule.user_id)
    note_accepted(schedule, fire_time, accepted)


def _note_skipped(schedule: Schedule, fire_time: datetime, *, reason: str) -> None:
    note_run(schedule, fire_time, SKIPPED, error=reason)


def _note_failed(schedule: Schedule, fire_time: datetime, *, reason: str) -> None:
    schedule.failures += 1
    schedule.last_error = reason
    note_run(schedule, fire_time, FAILED, error=reason)
    log.warning("schedule_refused", schedule_id=str(schedule.id), failures=schedule.failures)
    if schedule.failures >= FAILURES_ALLOWED:
        _pause(schedule)


def _give_up(schedule_id: UUID, due_at: datetime, reason: str) -> Sequence[datetime] | None:
    with transaction():
        schedule = _claimed(schedule_id, due_at)
        if schedule is None:
            return None
        schedule.last_error = reason[:MAXIMUM_MESSAGE_LENGTH]
        _pause(schedule)
    return []


def _pause(schedule: Schedule) -> None:
    schedule.paused_at = utcnow()
    schedule.next_run_at = None
    details = {"name": schedule.name, "error": schedule.last_error}
    record("schedule.pause", "schedule", schedule.id, details, organization_id=schedule.organization_id)


def _reason(error: Exception) -> str:
    """What the owner may know of an error."""
    if not isinstance(error, CarillonError):
        return "Something went wrong on our side."
    fields = [f"{field}: {' '.join(map(str, texts))}" for field, texts in (error.errors or {}).items()]
    return " ".join([error.message, *fields])[:MAXIMUM_MESSAGE_LENGTH]
