"""The inbox, who wants what by which channel, and messages to be sent outside."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utcnow
from service.database import Base
from service.ids import new_id


class Notification(Base):
    """One entry of a user's inbox; its id is made of the event and the recipient, so that it is written once."""

    __tablename__ = "notifications"
    __table_args__ = (
        # Each row is in one of these two, however much of an inbox was archived.
        Index("ix_notifications_inbox", "user_id", text("id DESC"), postgresql_where=text("archived_at IS NULL")),
        Index(
            "ix_notifications_archived", "user_id", text("id DESC"), postgresql_where=text("archived_at IS NOT NULL")
        ),
        Index("ix_notifications_unread", "user_id", text("id DESC"), postgresql_where=text("read_at IS NULL")),
        *(
            Index(f"ix_notifications_{name}", name, postgresql_where=text(f"{name} IS NOT NULL"))
            for name in ("snoozed_until", "expires_at", "send_id")
        ),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    user_id: Mapped[UUID]
    event_id: Mapped[UUID]
    type: Mapped[str] = mapped_column(Text)
    category: Mapped[str] = mapped_column(Text)
    title: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    # What it was sent with, where somebody sent it.
    send_id: Mapped[UUID | None]
    # Its buttons: `[{key, label, kind: link or action, url?}]`; and which of them settled the matter for everybody.
    actions: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB(none_as_null=True))
    resolution: Mapped[str | None] = mapped_column(Text)
    read_at: Mapped[datetime | None]
    # What is archived is read; what is snoozed is not counted until then; what has expired goes.
    archived_at: Mapped[datetime | None]
    snoozed_until: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]


class NotificationSend(Base):
    """Something that was told to an audience: what each recipient's notification and messages are made of."""

    __tablename__ = "notification_sends"
    __table_args__ = (
        Index("ix_notification_sends_organization_id_id", "organization_id", text("id DESC")),
        Index(
            "ix_notification_sends_cancelled_at",
            "cancelled_at",
            postgresql_where=text("cancelled_at IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    # None: the platform itself.
    sender_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    type: Mapped[str] = mapped_column(Text)
    # What preferences are asked by.
    category: Mapped[str] = mapped_column(Text)
    title: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]]
    actions: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB(none_as_null=True))
    # `{userIds?, roles?, all?}`.
    audience: Mapped[dict[str, Any]]
    channels: Mapped[list[str]] = mapped_column(ARRAY(Text))
    # Goes out whatever its recipients muted, at any hour.
    is_critical: Mapped[bool]
    template_name: Mapped[str | None] = mapped_column(Text)
    locale: Mapped[str | None] = mapped_column(Text)
    variables: Mapped[dict[str, Any] | None]
    send_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    # Of an approval: the key of the action, by whom and when.
    resolution: Mapped[str | None] = mapped_column(Text)
    resolved_by: Mapped[UUID | None]
    resolved_at: Mapped[datetime | None]
    # Nothing of it goes out from then on.
    cancelled_at: Mapped[datetime | None]


class InboxPlace(Base):
    """How far the inboxes of a part of a send have been written: those with ids above `after`, up to `reached`."""

    __tablename__ = "inbox_places"

    send_id: Mapped[UUID] = mapped_column(ForeignKey("notification_sends.id", ondelete="CASCADE"), primary_key=True)
    after: Mapped[UUID] = mapped_column(primary_key=True)
    reached: Mapped[UUID]
    # How many these were, and how many of them have it in their inbox.
    recipients: Mapped[int]
    delivered: Mapped[int]


class Inbox(Base):
    """How much of a user's inbox is unread, counted where it changes; `version` grows with each change."""

    __tablename__ = "inboxes"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    unread: Mapped[int]
    version: Mapped[int] = mapped_column(BigInteger)


class NotificationPreference(Base):
    """Whether a user wants notifications of a type by a channel."""

    __tablename__ = "notification_preferences"
    __table_args__ = (UniqueConstraint("user_id", "notification_type", "channel"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    notification_type: Mapped[str] = mapped_column(Text)
    channel: Mapped[str] = mapped_column(Text)
    enabled: Mapped[bool]
    # `none`, `hourly` or `daily`: how messages of this kind are gathered.
    digest: Mapped[str] = mapped_column(Text, default="none", server_default="none")
    updated_at: Mapped[datetime] = mapped_column(default=utcnow, onupdate=utcnow)


class NotificationDefault(Base):
    """What a tenant's users get where they have no preference of their own."""

    __tablename__ = "notification_defaults"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True)
    notification_type: Mapped[str] = mapped_column(Text, primary_key=True)
    channel: Mapped[str] = mapped_column(Text, primary_key=True)
    enabled: Mapped[bool]


class ChannelMessage(Base):
    """A message to leave by a channel such as e-mail; the row is the outbox, and says why a message did not leave."""

    __tablename__ = "channel_messages"
    __table_args__ = (
        Index(
            "ix_channel_messages_send_id",
            "send_id",
            "channel",
            "user_id",
            postgresql_where=text("send_id IS NOT NULL"),
        ),
        Index(
            "ix_channel_messages_source_id",
            "source_id",
            "user_id",
            postgresql_where=text("source_id IS NOT NULL"),
        ),
        Index("ix_channel_messages_held", "next_attempt_at", postgresql_where=text("status = 'held'")),
        Index(
            "ix_channel_messages_due",
            "channel",
            "next_attempt_at",
            postgresql_where=text("status IN ('pending', 'sending')"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    organization_id: Mapped[UUID | None]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    channel: Mapped[str] = mapped_column(Text)
    # The event or send that it tells of, and the send where it was one.
    source_id: Mapped[UUID | None]
    send_id: Mapped[UUID | None]
    # What preferences were asked by.
    notification_type: Mapped[str | None] = mapped_column(Text)
    template: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]]
    # `pending`, `sending`, `sent`, `failed`; `held` until `next_attempt_at`, `digested` into `digest_id`; `suppressed`.
    status: Mapped[str] = mapped_column(Text, default="pending")
    # Why it is held or was suppressed: `quiet_hours`, `digest`, `muted`, `no_address`, …
    reason: Mapped[str | None] = mapped_column(Text)
    digest: Mapped[str | None] = mapped_column(Text)
    digest_id: Mapped[UUID | None]
    attempts: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None] = mapped_column(Text)
    address: Mapped[str | None] = mapped_column(Text)
    provider: Mapped[str | None] = mapped_column(Text)
    provider_id: Mapped[str | None] = mapped_column(Text)
    sent_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    next_attempt_at: Mapped[datetime | None] = mapped_column(default=utcnow)
