"""Workflows."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utcnow
from service.database import Base
from service.ids import new_id


class Workflow(Base):
    """Jobs submitted as one; `status` is running until the last of them has ended."""

    __tablename__ = "workflows"
    __table_args__ = (
        Index("ix_workflows_user_id_id", "user_id", text("id DESC")),
        Index("ix_workflows_organization_id_id", "organization_id", text("id DESC")),
        Index("ix_workflows_running", "id", postgresql_where=text("status = 'running'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    completed_at: Mapped[datetime | None]
