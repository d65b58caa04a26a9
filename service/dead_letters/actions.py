"""What people do to a dead letter: replay it as it is or with another payload, discard it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from service.accounts.identity import Identity
from service.accounts.models import User
from service.accounts.roles import ADMIN
from service.clock import utcnow
from service.database import fetch_one, transaction
from service.errors import NotAllowed
from service.events import JobRow
from service.jobs.actions import discard_jobs, retry_job
from service.jobs.errors import NotDeadLetter
from service.jobs.filters import is_dead
from service.jobs.models import Job
from service.jobs.rows import COLUMNS
from service.jobs.submission import Submission, submit_job
from service.jobs.uniqueness import Unique


def replay(job_id: UUID) -> JobRow:
    """Queue a dead letter anew. Raises NotDeadLetter, and DuplicateJob when another job holds its unique key."""
    with transaction() as session:
        query = select(Job.id).where(Job.id == job_id, is_dead).with_for_update()
        if session.scalar(query) is None:
            raise NotDeadLetter
        return retry_job(job_id)


# Its successor holds its key.
REPLACE = f"""
UPDATE jobs SET discarded_at = %(now)s, unique_held = false
WHERE id = %(id)s AND status = 'failed' AND discarded_at IS NULL
RETURNING {COLUMNS}, retry_limit, unique_states, unique_until
"""


def replay_edited(job_id: UUID, payload: Mapping[str, Any], identity: Identity) -> JobRow:
    """Submit a job like a dead letter, with another payload, in the name of its owner; discard the dead letter.

    Raises NotDeadLetter, NotAllowed for an operator who would act as an administrator, and what `submit_job` raises.
    """
    now = utcnow()
    with transaction():
        dead = fetch_one(REPLACE, {"id": str(job_id), "now": now})
        if dead is None:
            raise NotDeadLetter
        owner = UUID(str(dead["user_id"]))
        _check_may_act_for(owner, identity)
        submission = Submission(
            type=dead["type"],
            payload=payload,
            name=dead["name"],
            priority=dead["priority"],
            retry_limit=dead["retry_limit"],
            retry_delay=dead["retry_delay"],
            retry_strategy=dead["retry_strategy"],
            timeout=dead["timeout"],
            tags=dead["tags"],
            unique=_unique(dead, now),
            queue=dead["queue"],
            concurrency_key=dead["concurrency_key"],
            notify=dead["notify"],
            parent_id=job_id,
        )
        return submit_job(submission, organization_id=identity.organization_id, user_id=owner).row


def _check_may_act_for(owner: UUID, identity: Identity) -> None:
    """A payload runs with its owner's rights: whoever edits it must not have fewer."""
    if owner == identity.user_id or ADMIN in identity.roles:
        return
    with transaction() as session:
        roles = session.scalar(select(User.roles).where(User.id == owner))
    if ADMIN in (roles or ()):
        raise NotAllowed


def _unique(dead: JobRow, now: datetime) -> Unique | None:
    if dead["unique_key"] is None:
        return None
    left = 0.0 if dead["unique_until"] is None else (dead["unique_until"] - now).total_seconds()
    return Unique(key=dead["unique_key"], states=dead["unique_states"], period=left if left > 0 else None)


def discard(job_id: UUID) -> None:
    """Have a job be a dead letter no more; it stays in the history as failed. Raises NotDeadLetter."""
    if not discard_jobs([job_id]):
        raise NotDeadLetter
