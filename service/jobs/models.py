"""Jobs and the history of their attempts."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, Uuid, false, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utcnow
from service.database import Base
from service.ids import new_id
from service.jobs.states import STATUSES

# The statuses that a job does not pass through on its way from being queued to being completed.
_UNUSUAL = "status IN ('scheduled', 'blocked', 'retrying', 'failed', 'cancelled')"


class Job(Base):
    """A job; `status` moves only as `service.jobs.states` allows, `(id, attempt)` is the fence of an attempt."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"status IN ({', '.join(repr(status) for status in STATUSES)})", name="status"),
        Index("ix_jobs_user_id_id", "user_id", text("id DESC")),
        Index("ix_jobs_organization_id_id", "organization_id", text("id DESC")),
        # For lists of what is rare among very many (docs/decisions/0013). Only the first two cost an ordinary job
        # something: its rows are never in the others, unless it has tags.
        Index("ix_jobs_user_id_type_id", "user_id", "type", text("id DESC")),
        Index("ix_jobs_organization_id_type_id", "organization_id", "type", text("id DESC")),
        Index("ix_jobs_user_id_status_id", "user_id", "status", text("id DESC"), postgresql_where=text(_UNUSUAL)),
        Index(
            "ix_jobs_organization_id_status_id",
            "organization_id",
            "status",
            text("id DESC"),
            postgresql_where=text(_UNUSUAL),
        ),
        Index(
            "ix_jobs_tags",
            "tags",
            postgresql_using="gin",
            # Without this one job in thousands would wait until the others' tags are put in their places.
            postgresql_with={"fastupdate": "off"},
            postgresql_where=text("array_length(tags, 1) IS NOT NULL"),
        ),
        # One holder a key: what `service.jobs.uniqueness` rests on.
        Index("uq_jobs_unique_id", "unique_id", unique=True, postgresql_where=text("unique_held")),
        Index(
            "ix_jobs_expiring",
            "expires_at",
            postgresql_where=text(
                "status IN ('scheduled', 'blocked', 'queued', 'retrying') AND expires_at IS NOT NULL"
            ),
        ),
        Index("ix_jobs_due", "next_attempt_at", postgresql_where=text("status IN ('scheduled', 'retrying')")),
        # Who is ahead in a queue.
        Index("ix_jobs_queued", "queue", text("priority DESC"), "id", postgresql_where=text("status = 'queued'")),
        # A queued job is held (nothing sent yet), parked (held by a limit that is used up) or sent.
        Index(
            "ix_jobs_held",
            "queue",
            "organization_id",
            text("priority DESC"),
            "id",
            postgresql_where=text("status = 'queued' AND dispatched_at IS NULL AND parked_on IS NULL"),
        ),
        Index(
            "ix_jobs_parked",
            "parked_on",
            text("priority DESC"),
            "id",
            postgresql_where=text("status = 'queued' AND parked_on IS NOT NULL"),
        ),
        Index(
            "ix_jobs_sent",
            "queue",
            "organization_id",
            postgresql_where=text("status = 'queued' AND dispatched_at IS NOT NULL"),
        ),
        Index("ix_jobs_active", "lease_expires_at", postgresql_where=text("status = 'active'")),
        Index(
            "ix_jobs_dead",
            "organization_id",
            text("id DESC"),
            postgresql_include=["user_id"],
            postgresql_where=text("status = 'failed' AND discarded_at IS NULL"),
        ),
        # What has failed of late, however old it was when it failed: for the alerts.
        Index("ix_jobs_failed", "completed_at", postgresql_where=text("status = 'failed'")),
        # Ended, and what depends on them has not been told yet.
        Index(
            "ix_jobs_settling",
            "id",
            postgresql_where=text("has_dependents AND status IN ('completed', 'failed', 'cancelled')"),
        ),
        Index("ix_jobs_workflow_id", "workflow_id", "status", postgresql_where=text("workflow_id IS NOT NULL")),
        Index("ix_jobs_schedule_id", "schedule_id", text("id DESC"), postgresql_where=text("schedule_id IS NOT NULL")),
        # What `carillon rotate-keys` goes through.
        Index("ix_jobs_sensitive", "id", postgresql_where=text("sensitive")),
        # A row changes twice in its life: room on its page keeps the changes there.
        {"postgresql_with": {"fillfactor": "70"}},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    type: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    queue: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    priority: Mapped[int]
    payload: Mapped[dict[str, Any]]
    result: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    error: Mapped[dict[str, Any] | None]
    progress: Mapped[dict[str, Any] | None]
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list)
    attempt: Mapped[int] = mapped_column(default=0)
    # Attempts after the first that one round has; `max_attempts` grows by a round with each retry by hand.
    retry_limit: Mapped[int]
    max_attempts: Mapped[int]
    rescues: Mapped[int] = mapped_column(default=0)
    retry_strategy: Mapped[str] = mapped_column(Text)
    retry_delay: Mapped[float]
    timeout: Mapped[int]
    worker: Mapped[str | None] = mapped_column(Text)
    unique_key: Mapped[str | None] = mapped_column(Text)
    # A digest of user, type and key; at most one job that holds it.
    unique_id: Mapped[UUID | None]
    unique_held: Mapped[bool] = mapped_column(default=False)
    # The statuses in which the job holds its key, and the time until which it does in any status.
    unique_states: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    unique_until: Mapped[datetime | None]
    # Of the jobs of a type with this key, as many run at once as the type allows.
    concurrency_key: Mapped[str | None] = mapped_column(Text)
    # Parents that have not ended well yet; a blocked job is queued when there are none.
    waiting_for: Mapped[int] = mapped_column(default=0)
    has_dependents: Mapped[bool] = mapped_column(default=False)
    workflow_id: Mapped[UUID | None]
    # The step of the workflow that this job is.
    ref: Mapped[str | None] = mapped_column(Text)
    # The schedule that submitted this job; it may be gone by now.
    schedule_id: Mapped[UUID | None]
    # The job that this one came from: a dead letter replayed with another payload.
    parent_id: Mapped[UUID | None]
    # Whether the owner's inbox hears of this job.
    notify: Mapped[bool] = mapped_column(default=True)
    # Payload, result and log lines are sealed (`service.jobs.sealing`), and told to nobody but the owner.
    sensitive: Mapped[bool] = mapped_column(default=False, server_default=false())
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    scheduled_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime | None]
    # When the message of the present attempt was sent; null while the job is held back.
    dispatched_at: Mapped[datetime | None]
    # The limit that holds the job back (`service.queues.limits`).
    parked_on: Mapped[str | None] = mapped_column(Text)
    # A job that has not begun by then fails as expired.
    expires_at: Mapped[datetime | None]
    lease_expires_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    cancel_reason: Mapped[str | None] = mapped_column(Text)
    # A failed job is a dead letter until then.
    discarded_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1)


class JobDependency(Base):
    """A job that waits for another one; `settled` once the end of the parent has been dealt with."""

    __tablename__ = "job_dependencies"
    __table_args__ = (Index("ix_job_dependencies_parent_id", "parent_id"),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    parent_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    # What becomes of the job when the parent fails or is cancelled: cancel, continue or fail.
    on_failure: Mapped[str] = mapped_column(Text)
    settled: Mapped[bool] = mapped_column(default=False)


class IdempotencyKey(Base):
    """What a client's `Idempotency-Key` led to: the same key and body lead there again."""

    __tablename__ = "idempotency_keys"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    body_hash: Mapped[bytes]
    job_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    created_at: Mapped[datetime] = mapped_column(default=utcnow, index=True)


class JobExecution(Base):
    """One finished attempt of a job; partitioned by the month its id was made in."""

    __tablename__ = "job_executions"
    __table_args__ = (Index("ix_job_executions_job_id", "job_id"), {"postgresql_partition_by": "RANGE (id)"})

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    job_id: Mapped[UUID]
    attempt: Mapped[int]
    worker: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    error: Mapped[dict[str, Any] | None]
    traceback: Mapped[str | None] = mapped_column(Text)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime]


class JobLog(Base):
    """A line a job wrote with `ctx.log`."""

    __tablename__ = "job_logs"
    __table_args__ = (Index("ix_job_logs_job_id_id", "job_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    level: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
