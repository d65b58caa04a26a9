"""What people do to jobs they have, one or some hundred at a time: cancel, retry, discard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from service.clock import utcnow
from service.database import fetch_all, transaction
from service.events import JobCancelled, JobQueued, JobRow
from service.ids import new_id
from service.jobs.errors import DuplicateJob, JobNotCancellable, JobNotRetryable
from service.jobs.rows import COLUMNS, RETURNED
from service.jobs.states import CANCELLED, FAILED, WAITING
from service.jobs.transitions import transition

# Those that are to be changed are locked in the order of their ids: two who act on many do not block each other.
_THESE = "id = ANY(ARRAY(SELECT value::uuid FROM jsonb_array_elements_text(%(ids)s)))"

CANCEL_WAITING = f"""
job AS (
    UPDATE jobs SET status = 'cancelled', completed_at = %(now)s, cancel_requested_at = %(now)s,
        cancel_reason = %(reason)s, next_attempt_at = NULL, version = version + 1,
        unique_held = unique_held AND coalesce(unique_until > %(now)s, false)
    WHERE id IN (SELECT id FROM jobs WHERE {_THESE} AND status = ANY(%(waiting)s) ORDER BY id FOR UPDATE)
    RETURNING {RETURNED})
"""

REQUEST_CANCEL = f"""
UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, %(now)s),
    cancel_reason = coalesce(cancel_reason, %(reason)s)
WHERE id IN (SELECT id FROM jobs WHERE {_THESE} AND status = 'active' ORDER BY id FOR UPDATE)
RETURNING {COLUMNS}
"""


def cancel_job(job_id: UUID, reason: str | None = None) -> JobRow:
    """Cancel a waiting job at once, ask a running one to stop; the row after this. Raises JobNotCancellable."""
    rows = cancel_jobs([job_id], reason)
    if not rows:
        raise JobNotCancellable
    return rows[0]


def cancel_jobs(job_ids: Iterable[UUID], reason: str | None = None) -> Sequence[JobRow]:
    """Cancel waiting jobs at once, ask running ones to stop; the rows of those that had not ended."""
    rows: list[JobRow] = []
    left = {str(job_id) for job_id in job_ids}
    parameters = {"now": utcnow(), "reason": reason, "waiting": list(WAITING)}
    with transaction():
        # Between the statements one may have started, or have gone back to the queue.
        for stop in (_cancel_waiting, _request_cancel, _cancel_waiting):
            if left:
                rows += stop({**parameters, "ids": json.dumps(sorted(left))})
                left -= {str(row["id"]) for row in rows}
    return rows


def _cancel_waiting(parameters: Mapping[str, Any]) -> Sequence[JobRow]:
    return transition(JobCancelled, CANCEL_WAITING, parameters)


def _request_cancel(parameters: Mapping[str, Any]) -> Sequence[JobRow]:
    return fetch_all(REQUEST_CANCEL, parameters)


# Holders of a key that these jobs want, whose period has run out.
LET_GO = f"""
UPDATE jobs SET unique_held = false
WHERE unique_held AND NOT status = ANY(unique_states) AND coalesce(unique_until <= %(now)s, true)
    AND unique_id IN (SELECT unique_id FROM jobs WHERE {_THESE} AND unique_id IS NOT NULL)
"""

_ANEW = """status = 'queued', error = NULL, progress = NULL, completed_at = NULL, cancel_requested_at = NULL,
        cancel_reason = NULL, rescues = 0, max_attempts = attempt + retry_limit + 1, dispatched_at = NULL,
        parked_on = NULL, discarded_at = NULL, unique_held = unique_id IS NOT NULL, expires_at = NULL,
        version = version + 1"""

RETRY = f"""
job AS (UPDATE jobs SET {_ANEW} WHERE {_THESE} AND status IN ('failed', 'cancelled') RETURNING {RETURNED})
"""


def let_go_of_keys(job_ids: Iterable[UUID]) -> None:
    """Have holders of the keys of these jobs let go whose period has run out, so that these may hold them again."""
    with transaction():
        fetch_all(LET_GO, {"ids": json.dumps([str(job_id) for job_id in job_ids]), "now": utcnow()})


def retry_job(job_id: UUID) -> JobRow:
    """Queue a failed or cancelled job anew with its full number of attempts.

    Raises JobNotRetryable, and DuplicateJob when another job holds its unique key by now.
    """
    parameters = {"ids": json.dumps([str(job_id)]), "now": utcnow()}
    with transaction():
        let_go_of_keys([job_id])
        try:
            rows = transition(JobQueued, RETRY, parameters)
        except IntegrityError:
            raise DuplicateJob from None
        if not rows:
            raise JobNotRetryable
    return rows[0]


# Of those that share a key the newest has it, and none where a job beside them does.
RETRY_MANY = f"""
chosen AS (
    SELECT id, unique_id FROM jobs
    WHERE {_THESE} AND status = ANY(%(statuses)s) AND (discarded_at IS NULL OR NOT %(dead)s)
    ORDER BY id FOR UPDATE),
free AS (
    SELECT id, row_number() OVER (PARTITION BY coalesce(unique_id, id) ORDER BY id DESC) AS place FROM chosen
    WHERE NOT EXISTS (SELECT FROM jobs AS holder
        WHERE holder.unique_id = chosen.unique_id AND holder.unique_held AND holder.id <> chosen.id)),
job AS (UPDATE jobs SET {_ANEW} WHERE id IN (SELECT id FROM free WHERE place = 1) RETURNING {RETURNED})
"""


def retry_jobs(job_ids: Iterable[UUID], *, dead: bool = False) -> Sequence[JobRow]:
    """Queue failed and cancelled jobs anew, or only dead letters; the rows of those that were.

    Left out is whose unique key another job holds. Raises IntegrityError where that one took it at this moment.
    """
    parameters = {
        "ids": json.dumps([str(job_id) for job_id in job_ids]),
        "now": utcnow(),
        "statuses": [FAILED] if dead else [FAILED, CANCELLED],
        "dead": dead,
    }
    with transaction():
        fetch_all(LET_GO, parameters)
        return transition(JobQueued, RETRY_MANY, parameters)


DISCARD = f"""
UPDATE jobs SET discarded_at = %(now)s
WHERE id IN (SELECT id FROM jobs WHERE {_THESE} AND status = 'failed' AND discarded_at IS NULL ORDER BY id FOR UPDATE)
RETURNING {COLUMNS}
"""


def discard_jobs(job_ids: Iterable[UUID]) -> Sequence[JobRow]:
    """Have failed jobs be dead letters no more; the rows of those that were."""
    with transaction():
        return fetch_all(DISCARD, {"ids": json.dumps([str(job_id) for job_id in job_ids]), "now": utcnow()})


def add_logs(job_id: UUID, attempt: int, lines: Sequence[tuple[str, str, datetime]]) -> None:
    """Keep log lines `(level, message, moment)` of an attempt."""
    records = [
        {"id": str(new_id()), "level": level, "message": message, "created_at": moment.isoformat()}
        for level, message, moment in lines
    ]
    with transaction():
        fetch_all(
            """
            INSERT INTO job_logs (id, job_id, attempt, level, message, created_at)
            SELECT id, %(job_id)s, %(attempt)s, level, message, created_at
            FROM jsonb_to_recordset(%(lines)s) AS line(id uuid, level text, message text, created_at timestamptz)
            """,
            {"job_id": str(job_id), "attempt": attempt, "lines": json.dumps(records)},
        )
