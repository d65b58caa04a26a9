"""Unique jobs: of those that share a key, one at a time holds it.

The database holds the promise: a partial unique index over `unique_id` of the jobs that hold their key. What a
submission means that finds the key held is the mode's to say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from service.database import fetch_all, fetch_one
from service.events import JobRow
from service.jobs.errors import DuplicateJob
from service.jobs.rows import COLUMNS
from service.jobs.states import ACTIVE, BLOCKED, QUEUED, RETRYING, SCHEDULED

REJECT = "reject"
EXISTING = "existing"
REPLACE = "replace"
DEBOUNCE = "debounce"
THROTTLE = "throttle"
MODES = (REJECT, EXISTING, REPLACE, DEBOUNCE, THROTTLE)

UNFINISHED = (SCHEDULED, BLOCKED, QUEUED, ACTIVE, RETRYING)


@dataclass(frozen=True, kw_only=True)
class Unique:
    """How a job is unique: `states` in which it holds its key, `period` in seconds from its submission in any state."""

    key: str
    mode: str = REJECT
    period: float | None = None
    states: Sequence[str] | None = None

    def columns(self, digest: UUID, now: datetime) -> dict[str, Any]:
        """The columns of a job that holds the key."""
        if self.mode == DEBOUNCE:
            # Once it may run its time is not pushed back any more: the next submission begins anew.
            states: Sequence[str] = (SCHEDULED,)
        elif self.mode == THROTTLE:
            states = ()
        else:
            states = UNFINISHED if self.states is None else self.states
        holds_until = None if self.period is None or self.mode == DEBOUNCE else now + timedelta(seconds=self.period)
        return {
            "unique_key": self.key,
            "unique_id": str(digest),
            "unique_states": list(states),
            "unique_until": None if holds_until is None else holds_until.isoformat(),
        }


def unique_id(user_id: UUID, job_type: str, key: str) -> UUID:
    """The digest that stands for a user's key of a type: by it nobody learns of other people's jobs or changes them."""
    text = json.dumps([str(user_id), job_type, key])
    return UUID(bytes=hashlib.sha256(text.encode()).digest()[:16])


# A period that has run out is noticed by the next one who wants the key.
LET_GO = """
UPDATE jobs SET unique_held = false
WHERE unique_id = %(unique_id)s AND unique_held AND NOT status = ANY(unique_states)
    AND coalesce(unique_until <= %(now)s, true)
RETURNING id
"""

HOLDER = f"SELECT {COLUMNS} FROM jobs WHERE unique_id = %(unique_id)s AND unique_held FOR UPDATE"

RENEW = f"""
UPDATE jobs SET payload = %(payload)s, sensitive = %(sensitive)s, name = %(name)s, priority = %(priority)s,
    timeout = %(timeout)s, scheduled_at = coalesce(%(scheduled_at)s, scheduled_at),
    next_attempt_at = coalesce(%(scheduled_at)s, next_attempt_at),
    expires_at = CASE WHEN %(scheduled_at)s IS NULL THEN expires_at ELSE %(expires_at)s END, version = version + 1
WHERE id = %(id)s
RETURNING {COLUMNS}
"""


def holder_of(record: Mapping[str, Any], unique: Unique, now: datetime) -> JobRow | None:
    """The job that a submission stands for; None when nobody holds the key any more.

    Raises DuplicateJob where the mode is reject, or replace and the job has begun.
    """
    parameters = {"unique_id": record["unique_id"], "now": now}
    if fetch_all(LET_GO, parameters):
        return None
    holder = fetch_one(HOLDER, parameters)
    if holder is None:
        return None
    if unique.mode == REJECT:
        raise DuplicateJob(job_id=holder["id"])
    if unique.mode in {EXISTING, THROTTLE}:
        return holder
    has_begun = holder["attempt"] > 0 or holder["status"] not in {SCHEDULED, QUEUED, BLOCKED}
    # One whose time is pushed back must still wait for it: a job of another mode may hold the key as it runs.
    is_late = unique.mode == DEBOUNCE and holder["status"] not in {SCHEDULED, BLOCKED}
    if is_late or (unique.mode == REPLACE and has_begun):
        raise DuplicateJob(job_id=holder["id"])
    return fetch_one(
        RENEW,
        {
            "id": holder["id"],
            "payload": json.dumps(record["payload"]),
            "sensitive": record["sensitive"],
            "name": record["name"],
            "priority": record["priority"],
            "timeout": record["timeout"],
            # Replace keeps the time that was given first; debounce pushes it back.
            "scheduled_at": record["scheduled_at"] if unique.mode == DEBOUNCE else None,
            "expires_at": record["expires_at"],
        },
    )
