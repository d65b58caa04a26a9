"""What people do to schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.accounts.identity import Identity
from service.audit.actions import record
from service.clock import utcnow
from service.database import transaction
from service.errors import NotAllowed
from service.jobs.submission import Accepted, check_submission, submit_job
from service.schedules.errors import ScheduleNameTaken, ScheduleNotFound
from service.schedules.models import Schedule
from service.schedules.queries import timing_of, visible_schedule
from service.schedules.runs import note_accepted, submission_for
from service.schedules.schemas import ScheduleOptionsSchema
from service.schedules.times import next_times


def create_schedule(identity: Identity, fields: Mapping[str, Any]) -> Schedule:
    """A new schedule; raises ScheduleNameTaken, and what a submission of its type, payload and queue raises."""
    with _unique_name(), transaction() as session:
        now = utcnow()
        schedule = Schedule(
            organization_id=identity.organization_id, user_id=identity.user_id, created_at=now, updated_at=now
        )
        _apply(schedule, fields)
        session.add(schedule)
        session.flush()
        record("schedule.create", "schedule", schedule.id, _said(schedule))
    return schedule


def change_schedule(schedule_id: UUID, identity: Identity, fields: Mapping[str, Any]) -> Schedule:
    """Change what is given; the next time is reckoned from now. Raises as `create_schedule`.

    What runs in somebody's name is his own to say: raises NotAllowed also for operators.
    """
    with _unique_name(), transaction() as session:
        schedule = _locked(session, schedule_id, identity)
        if schedule.user_id != identity.user_id:
            raise NotAllowed
        _apply(schedule, fields)
        schedule.updated_at = utcnow()
        schedule.failures = 0
        session.flush()
        record("schedule.update", "schedule", schedule.id, {**_said(schedule), "fields": sorted(fields)})
    return schedule


def delete_schedule(schedule_id: UUID, identity: Identity) -> None:
    """Delete a schedule with the record of its runs; its jobs stay."""
    with transaction() as session:
        schedule = _locked(session, schedule_id, identity)
        session.delete(schedule)
        record("schedule.delete", "schedule", schedule_id, _said(schedule))


def pause_schedule(schedule_id: UUID, identity: Identity) -> Schedule:
    """Let no time of a schedule lead to a job until it is resumed; jobs that there are go on."""
    with transaction() as session:
        schedule = _locked(session, schedule_id, identity)
        if schedule.paused_at is None:
            schedule.paused_at = utcnow()
            schedule.next_run_at = None
            record("schedule.pause", "schedule", schedule_id, {"name": schedule.name})
    return schedule


def resume_schedule(schedule_id: UUID, identity: Identity) -> Schedule:
    """Go on with the next time from now: what passed in the pause was not missed."""
    with transaction() as session:
        schedule = _locked(session, schedule_id, identity)
        if schedule.paused_at is not None:
            schedule.paused_at = None
            schedule.failures = 0
            _reckon(schedule)
            record("schedule.resume", "schedule", schedule_id, {"name": schedule.name})
    return schedule


def run_schedule(schedule_id: UUID, identity: Identity) -> Accepted:
    """Submit a job of a schedule at once, whatever else it does; its next time stays.

    Raises OwnerDeactivated, and what `submit_job` raises.
    """
    with transaction() as session:
        schedule = _locked(session, schedule_id, identity)
        submission = submission_for(schedule)
        accepted = submit_job(submission, organization_id=schedule.organization_id, user_id=schedule.user_id)
        note_accepted(schedule, None, accepted)
        record("schedule.run", "schedule", schedule_id, {"name": schedule.name, "jobId": str(accepted.row["id"])})
    return accepted


def _locked(session: Session, schedule_id: UUID, identity: Identity) -> Schedule:
    """A schedule that somebody may steer, which no tick moves meanwhile."""
    visible_schedule(schedule_id, identity)
    schedule = session.get(Schedule, schedule_id, with_for_update=True, populate_existing=True)
    if schedule is None:
        raise ScheduleNotFound
    return schedule


def _apply(schedule: Schedule, fields: Mapping[str, Any]) -> None:
    """Set what is given, check the whole, and reckon the next time from now."""
    given = dict(fields)
    job_type = given.pop("type", schedule.type)
    schedule.keep(job_type, given.pop("payload") if "payload" in given else schedule.opened_payload())
    if "options" in given:
        schedule.options = ScheduleOptionsSchema().dump(given.pop("options"))
    if "cron" in given or "interval_seconds" in given:
        schedule.cron = given.pop("cron", None)
        schedule.interval_seconds = given.pop("interval_seconds", None)
    for name, value in given.items():
        setattr(schedule, name, value)
    check_submission(submission_for(schedule), schedule.user_id)
    _reckon(schedule)


def _reckon(schedule: Schedule) -> None:
    if schedule.paused_at is None:
        schedule.next_run_at = next(iter(next_times(timing_of(schedule), utcnow(), 1)), None)


def _said(schedule: Schedule) -> dict[str, Any]:
    return {
        "name": schedule.name,
        "type": schedule.type,
        "cron": schedule.cron,
        "intervalSeconds": schedule.interval_seconds,
        "timezone": schedule.timezone,
    }


@contextmanager
def _unique_name() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        if "uq_schedules_user_id_name" not in str(error.orig):
            raise
        raise ScheduleNameTaken from None
