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
    """An endpoint of a user; its secrets and the values of its headers are encrypted."""

    __tablename__ = "webhooks"
    __table_args__ = (
        UniqueConstraint("user_id", "url", "event_type"),
        Index("ix_webhooks_backlog_at", "backlog_at", postgresql_where=text("backlog_at IS NOT NULL")),
    )

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
    # Why the platform switched it off: `gone` (410) or `failing`; cleared when its owner switches it on again.
    disabled_reason: Mapped[str | None] = mapped_column(Text)
    secret: Mapped[bytes]
    # `v1`, or `v1a` where the endpoint wants ed25519 signatures beside those of its secret.
    signature_scheme: Mapped[str] = mapped_column(Text, default="v1", server_default="v1")
    # Of `v1a`: the private key, encrypted, and the public one as its owner gives it to receivers.
    signing_key: Mapped[bytes | None]
    public_key: Mapped[str | None] = mapped_column(Text)
    # A JSON object of headers that every request to it carries.
    headers: Mapped[bytes | None]
    # Deliveries a second at most; None: as many as it takes.
    rate_limit: Mapped[int | None]
    # Attempts in a row that failed, and since when nothing has succeeded.
    failures: Mapped[int] = mapped_column(default=0, server_default="0")
    failing_since: Mapped[datetime | None]
    # When the next of its backlog may go; None where it has none.
    backlog_at: Mapped[datetime | None]
    # Where it has a rate limit: when the pace allows the next one.
    paced_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    updated_at: Mapped[datetime] = mapped_column(default=utcnow, onupdate=utcnow)


class WebhookOldSecret(Base):
    """A secret that was exchanged and signs beside the new one until its time is up."""

    __tablename__ = "webhook_old_secrets"
    __table_args__ = (Index("ix_webhook_old_secrets_webhook_id", "webhook_id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    secret: Mapped[bytes]
    signing_key: Mapped[bytes | None]
    valid_until: Mapped[datetime]


class WebhookDelivery(Base):
    """One event for one endpoint; the row is the outbox, its id the `webhook-id` of every attempt."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_webhook_id_id", "webhook_id", text("id DESC")),
        Index(
            "ix_webhook_deliveries_due",
            "next_attempt_at",
            postgresql_where=text("status IN ('pending', 'delivering') AND NOT in_backlog"),
        ),
        Index("ix_webhook_deliveries_backlog", "webhook_id", "next_attempt_at", postgresql_where=text("in_backlog")),
        Index(
            "ix_webhook_deliveries_undelivered",
            "webhook_id",
            "status",
            text("id DESC"),
            postgresql_where=text("status IN ('failed', 'skipped')"),
        ),
        Index(
            "ix_webhook_deliveries_status_code",
            "webhook_id",
            "status_code",
            text("id DESC"),
            postgresql_where=text("status_code NOT BETWEEN 200 AND 299"),
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
    # Attempts that do not count towards the schedule: those before it was sent anew, and those the proxy failed.
    free_attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    # Waits, while pending, until its endpoint has room: behind others, for its rate or for its recovery.
    in_backlog: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    # What its last attempt was answered with.
    status_code: Mapped[int | None]
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
    request_url: Mapped[str | None] = mapped_column(Text)
    # As sent, but for the values of the endpoint's own headers.
    request_headers: Mapped[dict[str, Any] | None]
    # The body was the delivery's payload in this format.
    payload_format: Mapped[str | None] = mapped_column(Text)
    status_code: Mapped[int | None]
    error_class: Mapped[str | None] = mapped_column(Text)
    resolved_address: Mapped[str | None] = mapped_column(Text)
    response_headers: Mapped[dict[str, Any] | None]
    response_body: Mapped[str | None] = mapped_column(Text)
    timings: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
