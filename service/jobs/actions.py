"""What people do to jobs: submit, cancel, retry."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import marshmallow as ma

from service.clock import utcnow
from service.database import after_commit, fetch_all, fetch_one, transaction
from service.errors import ValidationFailed, flatten_messages
from service.events import JobCancelled, JobCreated, JobQueued, JobRow, publish
from service.ids import new_id
from service.jobs.errors import JobNotCancellable, JobNotRetryable
from service.jobs.registry import JobType, get_job_type
from service.jobs.states import FINAL, QUEUED, SCHEDULED, WAITING
from service.queue import enqueue_jobs
from service.settings import current_settings

# The columns that events and answers need; JSON columns are left out, whoever wrote them knows them.
COLUMNS = """id, organization_id, user_id, type, name, queue, status, priority, tags, attempt, max_attempts, rescues,
    retry_strategy, retry_delay, timeout, worker, created_at, scheduled_at, started_at, completed_at, next_attempt_at,
    cancel_requested_at, cancel_reason, version"""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job that somebody asks for; what is None is taken from its type."""

    type: str
    payload: Mapping[str, Any]
    name: str | None = None
    priority: int | None = None
    run_at: datetime | None = None
    retry_limit: int | None = None
    retry_delay: float | None = None
    retry_strategy: str | None = None
    timeout: int | None = None
    tags: Sequence[str] = ()


INSERT = f"""
INSERT INTO jobs (id, organization_id, user_id, type, name, queue, status, priority, payload, tags, attempt,
    retry_limit, max_attempts, rescues, retry_strategy, retry_delay, timeout, created_at, scheduled_at,
    next_attempt_at, dispatched_at, version)
SELECT id, %(organization_id)s, %(user_id)s, type, name, queue, status, priority, payload,
    ARRAY(SELECT jsonb_array_elements_text(tags)), 0,
    retry_limit, retry_limit + 1, 0, retry_strategy, retry_delay, timeout, %(now)s, scheduled_at,
    scheduled_at, %(now)s, 1
FROM jsonb_to_recordset(%(jobs)s) AS job(id uuid, type text, name text, queue text, status text, priority int,
    payload jsonb, tags jsonb, retry_limit int, retry_strategy text, retry_delay float, timeout int,
    scheduled_at timestamptz)
RETURNING {COLUMNS}
"""


def submit_job(submission: Submission, *, organization_id: UUID, user_id: UUID) -> JobRow:
    """Accept a job: its row after this. Raises UnknownJobType or ValidationFailed."""
    record = _record(submission, user_id)
    with transaction():
        row = fetch_one(
            INSERT,
            {
                "organization_id": str(organization_id),
                "user_id": str(user_id),
                "now": utcnow(),
                "jobs": json.dumps([record]),
            },
        )
        assert row is not None
        publish(JobCreated(row))
        if row["status"] == QUEUED:
            after_commit(lambda: enqueue_jobs([row]))
    return row


def _record(submission: Submission, user_id: UUID) -> dict[str, Any]:
    kind = get_job_type(submission.type)
    _check_payload(kind, submission.payload, user_id)
    run_at = submission.run_at
    waits = run_at is not None and run_at > utcnow()
    settings = current_settings()

    def given(value: Any, default: Any) -> Any:
        return default if value is None else value

    return {
        "id": str(new_id()),
        "type": kind.name,
        "name": submission.name or kind.title,
        "queue": kind.queue,
        "status": SCHEDULED if waits else QUEUED,
        "priority": given(submission.priority, kind.priority),
        "payload": submission.payload,
        "tags": list(submission.tags),
        "retry_limit": given(submission.retry_limit, kind.retry_limit),
        "retry_strategy": submission.retry_strategy or kind.retry_strategy,
        "retry_delay": given(submission.retry_delay, kind.retry_delay),
        "timeout": given(submission.timeout, kind.timeout or settings.job_timeout_minutes * 60),
        "scheduled_at": run_at.isoformat() if run_at is not None and waits else None,
    }


def _check_payload(kind: JobType, payload: Mapping[str, Any], user_id: UUID) -> None:
    try:
        loaded = kind.payload().load(payload)
    except ma.ValidationError as error:
        raise ValidationFailed(errors=flatten_messages(error.messages, "payload")) from None
    if kind.check is not None:
        kind.check(user_id, loaded)


CANCEL_WAITING = f"""
WITH job AS (
    UPDATE jobs SET status = 'cancelled', completed_at = %(now)s, cancel_requested_at = %(now)s,
        cancel_reason = %(reason)s, next_attempt_at = NULL, version = version + 1
    WHERE id = %(id)s AND status = ANY(%(waiting)s)
    RETURNING {COLUMNS})
SELECT * FROM job
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
        row = fetch_one(CANCEL_WAITING, parameters)
        if row is not None:
            publish(JobCancelled(row))
            return row
        # Between the two statements it may have started, or have gone back to the queue.
        row = fetch_one(REQUEST_CANCEL, parameters) or fetch_one(CANCEL_WAITING, parameters)
        if row is None:
            raise JobNotCancellable
        if row["status"] in FINAL:
            publish(JobCancelled(row))
    return row


RETRY = f"""
UPDATE jobs SET status = 'queued', error = NULL, progress = NULL, completed_at = NULL, cancel_requested_at = NULL,
    cancel_reason = NULL, max_attempts = attempt - rescues + retry_limit + 1, dispatched_at = %(now)s,
    version = version + 1
WHERE id = %(id)s AND status IN ('failed', 'cancelled')
RETURNING {COLUMNS}
"""


def retry_job(job_id: UUID) -> JobRow:
    """Queue a failed or cancelled job anew with its full number of attempts; raises JobNotRetryable."""
    with transaction():
        row = fetch_one(RETRY, {"id": str(job_id), "now": utcnow()})
        if row is None:
            raise JobNotRetryable
        publish(JobQueued(row))
        after_commit(lambda: enqueue_jobs([row]))
    return row


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
