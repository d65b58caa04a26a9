"""What operators and owners were already told."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from service.database import Base


class FailureAlert(Base):
    """The last alert about jobs of one type that fail with one error; the next ones wait for a while."""

    __tablename__ = "failure_alerts"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True)
    job_type: Mapped[str] = mapped_column(Text, primary_key=True)
    error_code: Mapped[str] = mapped_column(Text, primary_key=True)
    alerted_at: Mapped[datetime]
    failures: Mapped[int]


class OwnerAlert(Base):
    """The last alert to a user about his own jobs of one type that fail with one error."""

    __tablename__ = "owner_alerts"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    job_type: Mapped[str] = mapped_column(Text, primary_key=True)
    error_code: Mapped[str] = mapped_column(Text, primary_key=True)
    alerted_at: Mapped[datetime]
    failures: Mapped[int]
