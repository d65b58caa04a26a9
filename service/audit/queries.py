"""Reads of the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from service.accounts.models import User
from service.audit.models import AuditEntry
from service.clock import isoformat
from service.ids import first_id_at
from service.pagination import LongList, Page


@dataclass(frozen=True, kw_only=True)
class AuditFilter:
    """Which entries; None means any."""

    action: str | None = None
    actor_id: UUID | None = None
    target_type: str | None = None
    target_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def list_entries(organization_id: UUID, wanted: AuditFilter, page: Page) -> dict[str, Any]:
    """A page of a tenant's entries, newest first."""
    query = select(AuditEntry.id).where(AuditEntry.organization_id == organization_id)
    for column, value in (
        (AuditEntry.action, wanted.action),
        (AuditEntry.actor_id, wanted.actor_id),
        (AuditEntry.target_type, wanted.target_type),
        (AuditEntry.target_id, wanted.target_id),
    ):
        if value is not None:
            query = query.where(column == value)
    # The id holds the time it was made, and the table is partitioned by it.
    if wanted.since is not None:
        query = query.where(AuditEntry.id >= first_id_at(wanted.since))
    if wanted.until is not None:
        query = query.where(AuditEntry.id < first_id_at(wanted.until))
    listed = query.outerjoin(User, User.id == AuditEntry.actor_id)
    return LongList(listed, AuditEntry.id).read(page, _entry_json, [AuditEntry, User.username])


def _entry_json(row: dict[str, Any]) -> dict[str, Any]:
    entry: AuditEntry = row["AuditEntry"]
    return {
        "id": str(entry.id),
        "action": entry.action,
        "actorId": str(entry.actor_id) if entry.actor_id else None,
        "actorUsername": row["username"],
        "targetType": entry.target_type,
        "targetId": entry.target_id,
        "details": entry.details,
        "ip": entry.ip,
        "userAgent": entry.user_agent,
        "requestId": entry.request_id,
        "createdAt": isoformat(entry.created_at),
    }
