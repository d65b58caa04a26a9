"""Schedules and what became of their times."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utcnow
from service.database import Base
from service.ids import new_id
from service.jobs.kept import KeptSubmission


class Schedule(KeptSubmission, Base):
    """A submission that is made again and again; `next_run_at` is null while it is paused, and where no time comes."""

    __tablename__ = "schedules"
    __table_args__ = (
        UniqueConstraint("user_id", "name"),
        Index("ix_schedules_next_run_at", "next_run_at", postgresql_where=text("paused_at IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), index=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    # Its jobs have this name too.
    name: Mapped[str] = mapped_column(Text)
    # One of the two.
    cron: Mapped[str | None] = mapped_column(Text)
    interval_seconds: Mapped[float | None]
    timezone: Mapped[str] = mapped_column(Text)
    misfire_policy: Mapped[str] = mapped_column(Text)
    misfire_limit: Mapped[int]
    overlap_policy: Mapped[str] = mapped_column(Text)
    paused_at: Mapped[datetime | None]
    next_run_at: Mapped[datetime | None]
    last_run_at: Mapped[datetime | None]
    last_job_id: Mapped[UUID | None]
    # Why the last time that failed did; null once one has led to a job since.
    last_error: Mapped[str | None] = mapped_column(Text)
    # Times in a row that led to no job because something was wrong.
    failures: Mapped[int] = mapped_column(default=0)
    # An interval is counted from here.
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    # When somebody changed it; its runs are no change.
    updated_at: Mapped[datetime] = mapped_column(default=utcnow)


class ScheduleRun(Base):
    """What became of a time of a schedule, or, where `fire_time` is null, of a run by hand."""

    __tablename__ = "schedule_runs"
    # A time is dealt with once, whatever happens.
    __table_args__ = (
        UniqueConstraint("schedule_id", "fire_time"),
        Index("ix_schedule_runs_schedule_id_id", "schedule_id", text("id DESC")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    schedule_id: Mapped[UUID] = mapped_column(ForeignKey("schedules.id", ondelete="CASCADE"))
    fire_time: Mapped[datetime | None]
    # submitted, existing (a unique job stood for it), skipped or failed.
    outcome: Mapped[str] = mapped_column(Text)
    # The job may be gone by now.
    job_id: Mapped[UUID | None]
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
