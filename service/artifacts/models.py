"""Artifacts, and the files in their storage that belong to none."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utcnow
from service.database import Base
from service.ids import new_id


class Artifact(Base):
    """A file that an attempt of a job left; the row is written when the file is complete.

    Where a row goes, in whatever way, a trigger notes an `UnlistedFile` for the file that it leaves behind.
    """

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("job_id", "attempt", "name"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    name: Mapped[str] = mapped_column(Text)
    content_type: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger)
    # In hexadecimal digits.
    sha256: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class UnlistedFile(Base):
    """A file that no artifact's row tells of: one that an attempt is writing, or whose row has gone.

    Written before the first byte, so that whatever dies when, nothing lies in the storage that the database does not
    know of. No foreign keys: a file may outlive its job and its tenant.
    """

    __tablename__ = "unlisted_files"

    # Of the artifact.
    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    job_id: Mapped[UUID]
    # The attempt that is writing it; null for a file that is to be removed.
    attempt: Mapped[int | None]
    noted_at: Mapped[datetime]
