"""Databases that users have registered, and what was last seen of their schemas."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Text, UniqueConstraint, select
from sqlalchemy.orm import Mapped, column_property, mapped_column

from service.clock import utcnow
from service.database import Base
from service.ids import new_id


class ConnectionSchema(Base):
    """The schema of a connection as the last `schema-rebuild` saw it."""

    __tablename__ = "connection_schema_cache"

    connection_id: Mapped[UUID] = mapped_column(ForeignKey("connections.id", ondelete="CASCADE"), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Text)
    schema: Mapped[dict[str, Any]]
    job_id: Mapped[UUID]
    rebuilt_at: Mapped[datetime]


class Connection(Base):
    """A registered database; its URL holds a password and is encrypted."""

    __tablename__ = "connections"
    __table_args__ = (UniqueConstraint("user_id", "name"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), index=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text)
    url: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    updated_at: Mapped[datetime] = mapped_column(default=utcnow, onupdate=utcnow)
    schema_rebuilt_at: Mapped[datetime | None] = column_property(
        select(ConnectionSchema.rebuilt_at)
        .where(ConnectionSchema.connection_id == id)
        .correlate_except(ConnectionSchema)
        .scalar_subquery()
    )
