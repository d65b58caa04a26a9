"""Tables of the event log."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Identity
from sqlalchemy.orm import Mapped, mapped_column

from service.database import Base


class UntoldEvent(Base):
    """Something has happened to a user's jobs or inbox, and the event log is still to tell it."""

    __tablename__ = "untold_events"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[UUID]
    created_at: Mapped[datetime]
