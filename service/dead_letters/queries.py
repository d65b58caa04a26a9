"""Reads of dead letters."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Select, Uuid, func, select
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from service.accounts.identity import Identity
from service.database import db
from service.dead_letters.errors import DeadLetterNotFound
from service.dead_letters.representation import group_json
from service.jobs.filters import JobFilter, compared_message, error_code, error_message, fingerprint_of, matching
from service.jobs.models import Job
from service.jobs.queries import job_columns, visible, visible_job
from service.jobs.registry import find_job_type
from service.jobs.representation import job_json
from service.jobs.states import FAILED
from service.pagination import LongList, Page

# About a second's work for the database.
GROUPED = 100_000
MAXIMUM_GROUPS = 1_000
SHOWN_IDS = 5


def list_dead_letters(identity: Identity, wanted: JobFilter, page: Page) -> dict[str, Any]:
    """A page of the user's dead letters, or of the tenant's for an operator, newest first."""
    return LongList(_matching(identity, wanted), Job.id).read(page, job_json, job_columns())


def _matching(identity: Identity, wanted: JobFilter) -> Select[Job]:
    # The tenant in any case: their index begins with it.
    return matching(visible(identity).where(Job.organization_id == identity.organization_id), wanted)


def group_dead_letters(identity: Identity, wanted: JobFilter, page: Page) -> dict[str, Any]:
    """A page of groups of dead letters that failed alike, the largest first; of the newest 100,000."""
    groups = db.session.execute(_groups(_matching(identity, wanted))).all()
    shown = groups[page.offset : page.offset + page.limit]
    newest = [row.newest[0] for row in shown]
    found = db.session.execute(select(Job.id, error_message.label("message")).where(Job.id.in_(newest)))
    messages = {row.id: row.message for row in found}
    return {
        "data": [group_json(row, messages.get(row.newest[0])) for row in shown],
        "pagination": {
            "page": page.number,
            "limit": page.limit,
            "total": len(groups),
            "totalPages": -(-len(groups) // page.limit),
        },
        "complete": sum(row.jobs for row in groups) < GROUPED and len(groups) < MAXIMUM_GROUPS,
    }


def _groups(query: Select[Job]) -> Select[Any]:
    columns = (Job.id, Job.type, Job.completed_at, error_code.label("code"), compared_message.label("message"))
    dead = query.with_only_columns(*columns).order_by(Job.id.desc()).limit(GROUPED).subquery().c
    ids: Any = func.array_agg(aggregate_order_by(dead.id, dead.id.desc()), type_=ARRAY(Uuid))
    count = func.count()
    return (
        select(
            dead.type,
            dead.code,
            fingerprint_of(dead.type, dead.code, dead.message).label("fingerprint"),
            count.label("jobs"),
            func.min(dead.completed_at).label("first_at"),
            func.max(dead.completed_at).label("last_at"),
            ids[1:SHOWN_IDS].label("newest"),
        )
        .group_by(dead.type, dead.code, dead.message)
        .order_by(count.desc(), func.max(dead.completed_at).desc())
        .limit(MAXIMUM_GROUPS)
    )


def read_dead_letter(job_id: UUID, identity: Identity) -> dict[str, Any]:
    """A dead letter with its payload, so that it can be edited; null for a type whose payloads are not shown.

    Raises DeadLetterNotFound, and what `visible_job` raises.
    """
    row = visible_job(job_id, identity)
    if row["status"] != FAILED or row["discarded_at"] is not None:
        raise DeadLetterNotFound
    kind = find_job_type(row["type"])
    # Of a type that is gone nobody knows whether it was sensitive.
    is_hidden = row["sensitive"] or kind is None or kind.sensitive
    payload = None if is_hidden else db.session.scalar(select(Job.payload).where(Job.id == job_id))
    return {**job_json(row), "payload": payload}
