"""Reads of schedules."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfoNotFoundError

from sqlalchemy import Select, select

from service.accounts.identity import Identity
from service.clock import utcnow
from service.database import db
from service.errors import NotAllowed
from service.pagination import LongList, Page
from service.schedules.errors import ScheduleNotFound
from service.schedules.models import Schedule, ScheduleRun
from service.schedules.representation import run_json
from service.schedules.times import BadExpression, Timing, next_times, timing

# How many of the coming times an answer shows.
SHOWN = 5


def visible_schedule(schedule_id: UUID, identity: Identity) -> Schedule:
    """A schedule that somebody may see and steer; raises ScheduleNotFound across tenants, NotAllowed within one."""
    schedule = db.session.get(Schedule, schedule_id)
    if schedule is None or schedule.organization_id != identity.organization_id:
        raise ScheduleNotFound
    if schedule.user_id != identity.user_id and not identity.is_operator:
        raise NotAllowed
    return schedule


def visible_schedules(
    identity: Identity, *, type: str | None = None, paused: bool | None = None, q: str | None = None
) -> Select[Any]:
    """The user's schedules, or the tenant's for an operator, by name; `q` is part of the name."""
    query = select(Schedule).order_by(Schedule.name, Schedule.id)
    if identity.is_operator:
        query = query.where(Schedule.organization_id == identity.organization_id)
    else:
        query = query.where(Schedule.user_id == identity.user_id)
    if type is not None:
        query = query.where(Schedule.type == type)
    if paused is not None:
        query = query.where(Schedule.paused_at.is_not(None) if paused else Schedule.paused_at.is_(None))
    if q is not None:
        query = query.where(Schedule.name.icontains(q, autoescape=True))
    return query


def runs(schedule_id: UUID, page: Page) -> dict[str, Any]:
    """A page of what became of a schedule's times, newest first."""
    query = select(ScheduleRun).where(ScheduleRun.schedule_id == schedule_id)
    return LongList(query, ScheduleRun.id).read(page, run_json)


def timing_of(schedule: Schedule) -> Timing:
    """The times of a schedule; raises ZoneInfoNotFoundError."""
    return timing(
        cron=schedule.cron,
        interval_seconds=schedule.interval_seconds,
        timezone=schedule.timezone,
        anchor=schedule.created_at,
    )


def coming_times(schedule: Schedule) -> list[datetime]:
    """The next five times of a schedule; none while it is paused."""
    if schedule.paused_at is not None:
        return []
    try:
        return next_times(timing_of(schedule), utcnow(), SHOWN)
    except (BadExpression, ZoneInfoNotFoundError):
        # The tick pauses it, and says why.
        return []
