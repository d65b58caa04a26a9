"""Browsers that take pushes, and the platform's own keys."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utcnow
from service.database import Base
from service.ids import new_id


class PushSubscription(Base):
    """A browser of a user; `keys` are those it gave for its messages, encrypted."""

    __tablename__ = "push_subscriptions"
    __table_args__ = (UniqueConstraint("user_id", "endpoint"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    endpoint: Mapped[str] = mapped_column(Text)
    keys: Mapped[bytes]
    user_agent: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class PlatformKey(Base):
    """A secret that the platform made for itself once, encrypted."""

    __tablename__ = "platform_keys"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
