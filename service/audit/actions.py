"""Writes of the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from flask import g, has_request_context, request

from service.accounts.identity import current_identity
from service.audit.models import AuditEntry
from service.database import db, transaction

USER_AGENT_LENGTH = 300


def record(
    action: str,
    target_type: str,
    target_id: object | None = None,
    details: Mapping[str, Any] | None = None,
    *,
    actor_id: UUID | None = None,
    organization_id: UUID | None = None,
) -> None:
    """Note an act, in the transaction that does it.

    The actor is the one behind the request unless it is given (a log-in has none yet, a console command neither).
    """
    with transaction():
        entry = AuditEntry(
            action=action,
            target_type=target_type,
            target_id=None if target_id is None else str(target_id),
            details=dict(details or {}),
            actor_id=actor_id,
            organization_id=organization_id,
        )
        if has_request_context():
            if "identity" in g:
                entry.actor_id = actor_id or current_identity().user_id
                entry.organization_id = organization_id or current_identity().organization_id
            entry.ip = request.remote_addr
            # PostgreSQL has no NUL in its texts; servers let it pass in headers.
            entry.user_agent = request.user_agent.string.replace("\0", "")[:USER_AGENT_LENGTH] or None
            entry.request_id = g.get("request_id")
        db.session.add(entry)
