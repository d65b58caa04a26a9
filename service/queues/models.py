"""Queues as operators keep them, and the limits on what runs."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Text
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utcnow
from service.database import Base
from service.jobs.limits import Limit, limit_of


class Queue(Base):
    """A queue that somebody paused or drained; one without a row runs."""

    __tablename__ = "queues"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    paused_at: Mapped[datetime | None]
    # While it drains, only jobs that were created before this run.
    drain_before: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(default=utcnow, onupdate=utcnow)


class JobLimit(Base):
    """A limit that an operator set; it takes the place of what the code or the settings say of its subject."""

    __tablename__ = "job_limits"

    # Whose: `service.queues.limits` says how subjects are written.
    subject: Mapped[str] = mapped_column(Text, primary_key=True)
    # Jobs at once; null: as many as there are workers.
    concurrency: Mapped[int | None]
    # Starts per so many seconds; null: as many as there are.
    rate: Mapped[int | None]
    period: Mapped[float | None]
    # bucket: evenly refilled; window: counted anew in each period.
    kind: Mapped[str | None] = mapped_column(Text)
    updated_at: Mapped[datetime] = mapped_column(default=utcnow, onupdate=utcnow)

    @property
    def limit(self) -> Limit:
        """The limit as a value."""
        return limit_of(self.concurrency, self.rate, self.period, self.kind)


class RateBucket(Base):
    """How many starts a subject of a rate limit has left."""

    __tablename__ = "job_rate_buckets"

    subject: Mapped[str] = mapped_column(Text, primary_key=True)
    tokens: Mapped[float]
    refilled_at: Mapped[datetime]
