"""What workers and ticks do to jobs: start, complete, fail, rescue, release, relay.

Every write of an attempt is guarded by its fence `(id, attempt)`: when another worker has the job, or it has ended,
the statement finds no row and the function says so by returning None.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from service.clock import utcnow
from service.database import after_commit, fetch_all, fetch_one, transaction
from service.events import (
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobQueued,
    JobRetrying,
    JobRow,
    JobStarted,
    publish,
)
from service.ids import new_id
from service.jobs.retry import retry_delay
from service.jobs.rows import COLUMNS
from service.queue import attempt_outcome, depth, enqueue_jobs, queues

log = structlog.get_logger(__name__)

LEASE_SECONDS = 30
# A job whose workers died this often is poison: it fails.
RESCUE_CAP = 3
# A message may be on its way, or reserved by a worker, for so long before `relay` takes it for lost.
RELAY_AFTER_SECONDS = 5
BATCH = 500

Error = Mapping[str, Any]

START = f"""
UPDATE jobs SET status = 'active', attempt = attempt + 1, started_at = %(now)s, lease_expires_at = %(lease)s,
    worker = %(worker)s, next_attempt_at = NULL, version = version + 1,
    unique_held = unique_held AND ('active' = ANY(unique_states) OR coalesce(unique_until > %(now)s, false))
WHERE id = %(id)s AND status = 'queued' AND attempt = %(attempt)s - 1 AND coalesce(expires_at > %(now)s, true)
RETURNING {COLUMNS}, payload::text AS payload
"""


def start_job(job_id: UUID, attempt: int, worker: str) -> JobRow | None:
    """Claim an attempt for a worker; None when somebody else has it or it was cancelled."""
    now = utcnow()
    with transaction():
        row = fetch_one(
            START,
            {
                "id": str(job_id),
                "attempt": attempt,
                "worker": worker,
                "now": now,
                "lease": now + timedelta(seconds=LEASE_SECONDS),
            },
        )
        if row is not None:
            publish(JobStarted(row))
    return row


# One statement: the job moves and its attempt is recorded, or neither.
END_ATTEMPT = f"""
WITH job AS (
    UPDATE jobs SET status = %(status)s, result = %(result)s, error = %(error)s, progress = %(progress)s,
        completed_at = %(completed_at)s, next_attempt_at = %(next_attempt_at)s, lease_expires_at = NULL,
        rescues = rescues + %(rescued)s, dispatched_at = %(now)s, version = version + 1,
        unique_held = unique_held AND (%(status)s = ANY(unique_states) OR coalesce(unique_until > %(now)s, false))
    WHERE id = %(id)s AND attempt = %(attempt)s AND status = 'active'
    RETURNING {COLUMNS}),
execution AS (
    INSERT INTO job_executions (id, job_id, attempt, worker, status, error, traceback, started_at, finished_at)
    SELECT %(execution_id)s, id, attempt, worker, %(execution_status)s, %(error)s, %(traceback)s, started_at, %(now)s
    FROM job)
SELECT * FROM job
"""


def _end_attempt(
    job_id: UUID,
    attempt: int,
    status: str,
    *,
    result: Any = None,
    error: Error | None = None,
    traceback: str | None = None,
    progress: Mapping[str, Any] | None = None,
    next_attempt_at: datetime | None = None,
    execution_status: str | None = None,
    rescued: bool = False,
) -> JobRow | None:
    now = utcnow()
    row = fetch_one(
        END_ATTEMPT,
        {
            "id": str(job_id),
            "attempt": attempt,
            "status": status,
            "result": None if result is None else json.dumps(result),
            "error": None if error is None else json.dumps(error),
            "traceback": traceback,
            "progress": None if progress is None else json.dumps(progress),
            "completed_at": now if status in {"completed", "failed", "cancelled"} else None,
            "next_attempt_at": next_attempt_at,
            "now": now,
            "execution_id": str(new_id()),
            "execution_status": execution_status or status,
            "rescued": int(rescued),
        },
    )
    return None if row is None else {**row, "result": result, "error": error, "progress": progress}


def complete_job(job_id: UUID, attempt: int, result: Any, progress: Mapping[str, Any] | None = None) -> JobRow | None:
    """End an attempt with its result; None when the fence has moved."""
    with transaction():
        row = _end_attempt(job_id, attempt, "completed", result=result, progress=progress)
        if row is not None:
            publish(JobCompleted(row))
    return row


def fail_job(
    job_id: UUID,
    attempt: int,
    error: Error,
    traceback: str | None = None,
    progress: Mapping[str, Any] | None = None,
    *,
    retry_in: float | None = None,
) -> JobRow | None:
    """End an attempt with an error `{code, message, retryable}`: another follows, or the job is a dead letter.

    `retry_in`: seconds until the next attempt, where the job asked for a time of its own. A job that somebody asked to
    cancel is not tried again: it ends as cancelled. None when the fence has moved.
    """
    with transaction():
        job = fetch_one(
            f"SELECT {COLUMNS} FROM jobs WHERE id = %(id)s AND attempt = %(attempt)s AND status = 'active' FOR UPDATE",
            {"id": str(job_id), "attempt": attempt},
        )
        if job is None:
            return None
        ending: dict[str, Any] = {"error": error, "traceback": traceback, "progress": progress}
        failures = job["attempt"] - job["rescues"]
        if job["cancel_requested_at"] is not None:
            row = _end_attempt(job_id, attempt, "cancelled", execution_status="failed", **ending)
            assert row is not None
            publish(JobCancelled(row))
        elif error["retryable"] and failures < job["max_attempts"]:
            delay = retry_in
            if delay is None:
                delay = retry_delay(job["retry_strategy"], job["retry_delay"], failures, random.Random())
            row = _end_attempt(
                job_id,
                attempt,
                "retrying",
                next_attempt_at=utcnow() + timedelta(seconds=delay),
                execution_status="failed",
                **ending,
            )
            assert row is not None
            publish(JobRetrying(row))
        else:
            row = _end_attempt(job_id, attempt, "failed", **ending)
            assert row is not None
            publish(JobFailed(row))
    return row


def stop_job(job_id: UUID, attempt: int, progress: Mapping[str, Any] | None = None) -> JobRow | None:
    """End an attempt whose body obeyed a cancel; None when the fence has moved."""
    with transaction():
        row = _end_attempt(job_id, attempt, "cancelled", progress=progress)
        if row is not None:
            publish(JobCancelled(row))
    return row


def lose_attempt(job_id: UUID, attempt: int) -> JobRow | None:
    """The worker of an attempt died: queue the job again, or fail it when this has happened too often."""
    with transaction():
        job = fetch_one(
            """
            SELECT rescues, cancel_requested_at FROM jobs
            WHERE id = %(id)s AND attempt = %(attempt)s AND status = 'active' FOR UPDATE
            """,
            {"id": str(job_id), "attempt": attempt},
        )
        if job is None:
            return None
        error = {"code": "worker_lost", "message": "The worker process died.", "retryable": True}
        if job["cancel_requested_at"] is not None:
            row = _end_attempt(job_id, attempt, "cancelled", execution_status="lost")
            assert row is not None
            publish(JobCancelled(row))
        elif job["rescues"] >= RESCUE_CAP:
            row = _end_attempt(job_id, attempt, "failed", error={**error, "retryable": False}, execution_status="lost")
            assert row is not None
            publish(JobFailed(row))
        else:
            row = _end_attempt(job_id, attempt, "queued", execution_status="lost", rescued=True)
            assert row is not None
            publish(JobQueued(row))
            queued = row
            after_commit(lambda: enqueue_jobs([queued]))
    log.warning("attempt_lost", job_id=str(job_id), attempt=attempt, status=row["status"])
    return row


def renew_lease(job_id: UUID, attempt: int) -> JobRow | None:
    """Hold on to a running attempt for another 30 s; its row, or None when it has been given away."""
    with transaction():
        return fetch_one(
            """
            UPDATE jobs SET lease_expires_at = %(lease)s
            WHERE id = %(id)s AND attempt = %(attempt)s AND status = 'active'
            RETURNING cancel_requested_at
            """,
            {"id": str(job_id), "attempt": attempt, "lease": utcnow() + timedelta(seconds=LEASE_SECONDS)},
        )


def read_attempt(job_id: UUID, attempt: int) -> JobRow | None:
    """Whether an attempt still runs, and whether somebody asked to cancel it; None when it has been given away."""
    with transaction():
        return fetch_one(
            "SELECT cancel_requested_at FROM jobs WHERE id = %(id)s AND attempt = %(attempt)s AND status = 'active'",
            {"id": str(job_id), "attempt": attempt},
        )


RELEASE = f"""
UPDATE jobs SET status = 'queued', next_attempt_at = NULL, dispatched_at = %(now)s, version = version + 1,
    unique_held = unique_held AND ('queued' = ANY(unique_states) OR coalesce(unique_until > %(now)s, false))
WHERE id IN (
    SELECT id FROM jobs WHERE status IN ('scheduled', 'retrying') AND next_attempt_at <= %(now)s
    ORDER BY next_attempt_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
RETURNING {COLUMNS}
"""


def release_due() -> int:
    """Queue the scheduled and retrying jobs whose time has come; how many."""
    with transaction():
        rows = fetch_all(RELEASE, {"now": utcnow(), "batch": BATCH})
        if rows:
            publish(*[JobQueued(row) for row in rows])
            after_commit(lambda: enqueue_jobs(rows))
    return len(rows)


EXPIRE = f"""
UPDATE jobs SET status = 'failed', completed_at = %(now)s, next_attempt_at = NULL, version = version + 1,
    error = %(error)s, unique_held = unique_held AND coalesce(unique_until > %(now)s, false)
WHERE id IN (
    SELECT id FROM jobs WHERE status IN ('scheduled', 'blocked', 'queued', 'retrying') AND expires_at <= %(now)s
    ORDER BY expires_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
RETURNING {COLUMNS}
"""


def expire_due() -> int:
    """Fail the jobs that have waited for longer than they may; how many."""
    error = {"code": "expired", "message": "The job waited for longer than it may.", "retryable": False}
    with transaction():
        rows = fetch_all(EXPIRE, {"now": utcnow(), "batch": BATCH, "error": json.dumps(error)})
        publish(*[JobFailed({**row, "error": error}) for row in rows])
    return len(rows)


REDISPATCH = f"""
UPDATE jobs SET dispatched_at = %(now)s
WHERE id IN (
    SELECT id FROM jobs WHERE status = 'queued' AND queue = %(queue)s AND dispatched_at < %(overdue)s
    ORDER BY dispatched_at LIMIT %(missing)s FOR UPDATE SKIP LOCKED)
RETURNING {COLUMNS}
"""


def relay() -> int:
    """Send again the messages that the broker has lost; how many.

    Compares what SQL has queued with what the broker holds, so that a long backlog is not sent twice. What a worker
    has reserved may be sent again: the claim makes that harmless.
    """
    sent = 0
    for queue in queues():
        now = utcnow()
        parameters = {"queue": queue, "now": now, "overdue": now - timedelta(seconds=RELAY_AFTER_SECONDS)}
        with transaction():
            overdue = fetch_one(
                """
                SELECT count(*) AS jobs FROM jobs
                WHERE status = 'queued' AND queue = %(queue)s AND dispatched_at < %(overdue)s
                """,
                parameters,
            )
        assert overdue is not None
        missing = overdue["jobs"] - depth(queue) if overdue["jobs"] else 0
        if missing <= 0:
            continue
        with transaction():
            rows = fetch_all(REDISPATCH, {**parameters, "missing": missing})
        enqueue_jobs(rows)
        sent += len(rows)
        log.warning("messages_relayed", queue=queue, jobs=len(rows))
    return sent


def rescue() -> int:
    """Deal with active jobs whose lease has run out; how many.

    An attempt that Celery's result backend knows to have ended is ended so, instead of running again.
    """
    with transaction():
        expired = fetch_all(
            """
            SELECT id, attempt FROM jobs WHERE status = 'active' AND lease_expires_at < %(now)s
            ORDER BY lease_expires_at LIMIT %(batch)s
            """,
            {"now": utcnow(), "batch": BATCH},
        )
    for job in expired:
        job_id, attempt = UUID(str(job["id"])), job["attempt"]
        state, outcome = attempt_outcome(job_id, attempt)
        if state == "SUCCESS":
            complete_job(job_id, attempt, outcome)
        else:
            lose_attempt(job_id, attempt)
    return len(expired)
