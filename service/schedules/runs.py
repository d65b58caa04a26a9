"""A schedule's runs: how its jobs are submitted, and what became of its times."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID

import marshmallow as ma
from sqlalchemy import select

from service.accounts.models import User
from service.clock import utcnow
from service.database import db, fetch_all, fetch_one, transaction
from service.errors import ValidationFailed, flatten_messages
from service.ids import new_id
from service.jobs.requests import submission_of
from service.jobs.submission import Accepted, Submission
from service.schedules.errors import OwnerDeactivated
from service.schedules.models import Schedule
from service.schedules.outcomes import EXISTING, SUBMITTED
from service.schedules.schemas import ScheduleOptionsSchema

# Of each schedule.
RUNS_KEPT = 100


def submission_for(schedule: Schedule) -> Submission:
    """The submission that a schedule makes.

    Raises OwnerDeactivated, PayloadUnreadable, and ValidationFailed for options that this version does not know.
    """
    if not db.session.scalar(select(User.is_active).where(User.id == schedule.user_id)):
        raise OwnerDeactivated
    try:
        options = ScheduleOptionsSchema().load(schedule.options)
    except ma.ValidationError as error:
        raise ValidationFailed(errors=flatten_messages(error.messages, "options")) from None
    body = {"type": schedule.type, "payload": schedule.opened_payload(), "name": schedule.name, "options": options}
    return replace(submission_of(body), schedule_id=schedule.id)


def note_accepted(schedule: Schedule, fire_time: datetime | None, accepted: Accepted) -> None:
    """Note that a run led to a job; the caller holds the schedule's row."""
    job_id = UUID(str(accepted.row["id"]))
    schedule.last_run_at = utcnow()
    schedule.last_job_id = job_id
    schedule.last_error = None
    schedule.failures = 0
    note_run(schedule, fire_time, EXISTING if accepted.outcome == "existing" else SUBMITTED, job_id=job_id)


# One statement: the rows that there were before it are one fewer.
NOTE = f"""
WITH forgotten AS (
    DELETE FROM schedule_runs WHERE id IN (
        SELECT id FROM schedule_runs WHERE schedule_id = %(schedule_id)s ORDER BY id DESC OFFSET {RUNS_KEPT - 1}))
INSERT INTO schedule_runs (id, schedule_id, fire_time, outcome, job_id, error, created_at)
VALUES (%(id)s, %(schedule_id)s, %(fire_time)s, %(outcome)s, %(job_id)s, %(error)s, %(now)s)
"""


def note_run(
    schedule: Schedule,
    fire_time: datetime | None,
    outcome: str,
    *,
    job_id: UUID | None = None,
    error: str | None = None,
) -> None:
    """Note what became of a run, and forget the oldest; the caller holds the schedule's row."""
    parameters = {
        "id": str(new_id()),
        "schedule_id": str(schedule.id),
        "fire_time": fire_time,
        "outcome": outcome,
        "job_id": None if job_id is None else str(job_id),
        "error": error,
        "now": utcnow(),
    }
    with transaction():
        fetch_all(NOTE, parameters)


def has_run(schedule_id: UUID, fire_time: datetime) -> bool:
    """Whether a time has been dealt with before, perhaps by a clock that was ahead."""
    with transaction():
        row = fetch_one(
            "SELECT id FROM schedule_runs WHERE schedule_id = %(schedule_id)s AND fire_time = %(fire_time)s",
            {"schedule_id": str(schedule_id), "fire_time": fire_time},
        )
    return row is not None
