"""What people do to jobs they have: cancel, retry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from service.clock import utcnow
from service.database import fetch_all, transaction
from service.events import JobCancelled, JobQueued, JobRow
from service.ids import new_id
from service.jobs.errors import DuplicateJob, JobNotCancellable, JobNotRetryable
from service.jobs.rows import COLUMNS, RETURNED
from service.jobs.states import WAITING
from service.jobs.transitions import transition

CANCEL_WAITING = f"""
job AS (
    UPDATE jobs SET status = 'cancelled', completed_at = %(now)s, cancel_requested_at = %(now)s,
        cancel_reason = %(reason)s, next_attempt_at = NULL, version = version + 1,
        unique_held = unique_held AND coalesce(unique_until > %(now)s, false)
    WHERE id = %(id)s AND status = ANY(%(waiting)s)
    RETURNING {RETURNED})
"""

REQUEST_CANCEL = f"""
UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, %(now)s),
    cancel_reason = coalesce(cancel_reason, %(reason)s)
WHERE id = %(id)s AND status = 'active'
RETURNING {COLUMNS}
"""


def cancel_job(job_id: UUID, reason: str | None = None) -> JobRow:
    """Cancel a waiting job at once, ask a running one to stop; the row after this. Raises JobNotCancellable."""
    parameters = {"id": str(job_id), "now": utcnow(), "reason": reason, "waiting": list(WAITING)}
    with transaction():
        # Between the statements it may have started, or have gone back to the queue.
        rows = (
            transition(JobCancelled, CANCEL_WAITING, parameters)
            or fetch_all(REQUEST_CANCEL, parameters)
            or transition(JobCancelled, CANCEL_WAITING, parameters)
        )
    if not rows:
        raise JobNotCancellable
    return rows[0]


RETRY = f"""
job AS (
    UPDATE jobs SET status = 'queued', error = NULL, progress = NULL, completed_at = NULL, cancel_requested_at = NULL,
        cancel_reason = NULL, rescues = 0, max_attempts = attempt + retry_limit + 1, dispatched_at = NULL,
        parked_on = NULL, discarded_at = NULL, unique_held = unique_id IS NOT NULL, expires_at = NULL,
        version = version + 1
    WHERE id = %(id)s AND status IN ('failed', 'cancelled')
    RETURNING {RETURNED})
"""


def retry_job(job_id: UUID) -> JobRow:
    """Queue a failed or cancelled job anew with its full number of attempts.

    Raises JobNotRetryable, and DuplicateJob when another job holds its unique key by now.
    """
    with transaction():
        try:
            rows = transition(JobQueued, RETRY, {"id": str(job_id), "now": utcnow()})
        except IntegrityError:
            raise DuplicateJob from None
    if not rows:
        raise JobNotRetryable
    return rows[0]


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
