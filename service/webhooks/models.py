"""Endpoints, what is to be delivered to them, and every attempt at it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utcnow
from service.database import Base
from service.ids import new_id


class Webhook(Base):
    """An endpoint of a user; its secret is encrypted."""

    __tablename__ = "webhooks"
    __table_args__ = (UniqueConstraint("user_id", "url", "event_type"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    url: Mapped[str] = mapped_column(Text)
    event_type: Mapped[str] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    payload_format: Mapped[str] = mapped_column(Text, default="standard")
    # The single `webhookUrl` of a user's profile, kept for the clients of the time before endpoints.
    is_legacy: Mapped[bool] = mapped_column(default=False)
    active: Mapped[bool] = mapped_column(default=True)
    # Set when the receiver answered 410; cleared when its owner switches it on again.
    disabled_reason: Mapped[str | None] = mapped_column(Text)
    secret: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    updated_at: Mapped[datetime] = mapped_column(default=utcnow, onupdate=utcnow)


class WebhookDelivery(Base):
    """One event for one endpoint; the row is the outbox, its id the `webhook-id` of every attempt."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_webhook_id_id", "webhook_id", text("id DESC")),
        Index(
            "ix_webhook_deliveries_due",
            "next_attempt_at",
            postgresql_where=text("status IN ('pending', 'delivering')"),
        ),
        Index(
            "ix_webhook_deliveries_progress",
            "job_id",
            postgresql_where=text("event_type = 'job.progress' AND status = 'pending'"),
        ),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    user_id: Mapped[UUID]
    webhook_id: Mapped[UUID]
    event_id: Mapped[UUID]
    event_type: Mapped[str] = mapped_column(Text)
    job_id: Mapped[UUID | None]
    payload: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int]
    # While pending: when to send. While delivering: when the lease of the sender ends.
    next_attempt_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class WebhookAttempt(Base):
    """One POST and what came of it."""

    __tablename__ = "webhook_attempts"
    __table_args__ = (Index("ix_webhook_attempts_delivery_id", "delivery_id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    delivery_id: Mapped[UUID]
    attempt: Mapped[int]
    status_code: Mapped[int | None]
    error_class: Mapped[str | None] = mapped_column(Text)
    resolved_address: Mapped[str | None] = mapped_column(Text)
    response_headers: Mapped[dict[str, Any] | None]
    response_body: Mapped[str | None] = mapped_column(Text)
    timings: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
