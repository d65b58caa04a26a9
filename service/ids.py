"""Identifiers: UUIDv7, so that ids sort by the time they were made (RFC 9562, section 5.7)."""

from __future__ import annotations

import hashlib
from datetime import datetime
from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A fresh UUIDv7."""
    return uuid7()


def first_id_at(moment: datetime) -> UUID:
    """The smallest UUIDv7 of a moment: the bound of a partition, or of a search by time."""
    # Nothing was made before 1970, but somebody may search there.
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62))


def derived_id(event: UUID, recipient: str) -> UUID:
    """The id of what an event becomes for somebody, always the same: SQL's function of this name, in Python."""
    digest = hashlib.md5(f"{event}{recipient}".encode(), usedforsecurity=False).hexdigest()
    return UUID(f"{str(event)[:14]}7{digest[13:16]}-8{digest[17:20]}-{digest[20:]}")
