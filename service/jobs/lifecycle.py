"""What workers and ticks do to jobs: start, complete, fail, rescue, release, relay.

Every write of an attempt is guarded by its fence `(id, attempt)`: when another worker has the job, or it has ended,
the statement finds no row and the function says so by returning None.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import DataError, OperationalError

from service.clock import utcnow
from service.database import fetch_all, fetch_one, transaction
from service.events import (
    JobCancelled,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobQueued,
    JobRetrying,
    JobRow,
    JobStarted,
)
from service.ids import new_id
from service.jobs.retry import retry_delay
from service.jobs.rows import COLUMNS, RETURNED
from service.jobs.states import FINAL, QUEUED
from service.jobs.transitions import transition
from service.queue import BROKER_ERRORS, attempt_outcome, depth, enqueue_jobs, queues

log = structlog.get_logger(__name__)

# By the database's clock: workers' clocks differ, and a lease is given on one machine and judged on another.
LEASE_END = "clock_timestamp() + interval '30 s'"
# After a restart of PostgreSQL every lease may have run out, and living workers renew theirs within this time.
RESTART_GRACE = "interval '15 s'"
# A job whose workers died this often is poison: it fails.
RESCUE_CAP = 3
# A message may be on its way, or reserved by a worker, for so long before `relay` takes it for lost.
RELAY_AFTER_SECONDS = 5
BATCH = 500
# At once: a broker that comes back empty beside a million jobs is filled bit by bit.
MAXIMUM_RELAYED = 5_000

Error = Mapping[str, Any]
# How an attempt may end that says nothing about the job.
LOST = "lost"
HANDED_BACK = "handed_back"

# One row by its id: what else is asked of it stands in a CASE, or PostgreSQL may look for the id among all jobs that
# are queued or active.
START = f"""
job AS (
    UPDATE jobs SET status = 'active', attempt = attempt + 1, started_at = %(now)s, lease_expires_at = {LEASE_END},
        worker = %(worker)s, next_attempt_at = NULL, version = version + 1,
        unique_held = unique_held AND ('active' = ANY(unique_states) OR coalesce(unique_until > %(now)s, false))
    WHERE id = %(id)s AND CASE WHEN status = 'queued' AND attempt = %(attempt)s - 1 AND dispatched_at IS NOT NULL
        AND coalesce(expires_at > %(now)s, true)
        AND NOT EXISTS (SELECT FROM queues WHERE queues.name = jobs.queue
            AND (queues.paused_at IS NOT NULL OR jobs.created_at >= queues.drain_before)) THEN true END
    RETURNING {RETURNED}, payload)
"""

# Whether the dispatcher has something to send now that a job was taken from its queue, which leaves room in it, or has
# ended, which leaves room in limits.
# Not EXISTS, of which PostgreSQL may make a table of all held jobs to look a queue up in.
HELD = """coalesce((SELECT true FROM jobs AS held WHERE held.queue = job.queue AND held.status = 'queued'
    AND held.dispatched_at IS NULL AND held.parked_on IS NULL LIMIT 1), false)"""
PARKED = "EXISTS (SELECT FROM jobs AS parked WHERE parked.status = 'queued' AND parked.parked_on IS NOT NULL)"
AFTER_START = f", payload::text AS payload, {HELD} AS holds"
AFTER_END = f", {PARKED} AS holds"


def start_job(job_id: UUID, attempt: int, worker: str) -> JobRow | None:
    """Claim an attempt for a worker; None when somebody else has it, it was cancelled, or its queue is paused."""
    now = utcnow()
    parameters = {
        "id": str(job_id),
        "attempt": attempt,
        "worker": worker,
        "now": now,
    }
    return _only(transition(JobStarted, START, parameters, extra=AFTER_START))


def _only(rows: Sequence[JobRow]) -> JobRow | None:
    return rows[0] if rows else None


END_ATTEMPT = f"""
job AS (
    UPDATE jobs SET status = %(status)s, result = %(result)s, error = %(error)s, progress = %(progress)s,
        completed_at = %(completed_at)s, next_attempt_at = %(next_attempt_at)s, lease_expires_at = NULL,
        rescues = rescues + %(rescued)s, max_attempts = max_attempts + %(spared)s, dispatched_at = NULL,
        version = version + 1,
        unique_held = unique_held AND (%(status)s = ANY(unique_states) OR coalesce(unique_until > %(now)s, false))
    WHERE id = %(id)s AND CASE WHEN attempt = %(attempt)s AND status = 'active' THEN true END
    RETURNING {RETURNED}),
execution AS (
    INSERT INTO job_executions (id, job_id, attempt, worker, status, error, traceback, started_at, finished_at)
    SELECT %(execution_id)s, id, attempt, worker, %(execution_status)s, %(error)s, %(traceback)s, started_at, %(now)s
    FROM job)
"""

STATUS_AFTER: dict[type[JobEvent], str] = {
    JobCompleted: "completed",
    JobFailed: "failed",
    JobCancelled: "cancelled",
    JobRetrying: "retrying",
    JobQueued: "queued",
}


def _end_attempt(
    event_type: type[JobEvent],
    job_id: UUID,
    attempt: int,
    *,
    result: Any = None,
    error: Error | None = None,
    traceback: str | None = None,
    progress: Mapping[str, Any] | None = None,
    next_attempt_at: datetime | None = None,
    execution_status: str | None = None,
) -> JobRow | None:
    now = utcnow()
    status = STATUS_AFTER[event_type]
    parameters = {
        "id": str(job_id),
        "attempt": attempt,
        "status": status,
        "result": None if result is None else json.dumps(result),
        "error": None if error is None else json.dumps(error),
        "traceback": traceback,
        "progress": None if progress is None else json.dumps(progress),
        "completed_at": now if status in FINAL else None,
        "next_attempt_at": next_attempt_at,
        "now": now,
        "execution_id": str(new_id()),
        "execution_status": execution_status or status,
        # Back to the queue without having failed: lost with its worker, or handed back by one that stopped.
        "rescued": int(status == QUEUED and execution_status == LOST),
        "spared": int(status == QUEUED and execution_status == HANDED_BACK),
    }
    known = {"result": result, "error": error, "progress": progress}
    return _only(transition(event_type, END_ATTEMPT, parameters, known=known, extra=AFTER_END))


def complete_job(job_id: UUID, attempt: int, result: Any, progress: Mapping[str, Any] | None = None) -> JobRow | None:
    """End an attempt with its result, or as failed where that cannot be stored; None when the fence has moved."""
    try:
        return _end_attempt(JobCompleted, job_id, attempt, result=result, progress=progress)
    except (DataError, RecursionError):
        log.exception("result_refused", job_id=str(job_id), attempt=attempt)
    error = {"code": "invalid_result", "message": "The result cannot be stored.", "retryable": False}
    return fail_job(job_id, attempt, error, progress=progress)


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
            f"""
            SELECT {COLUMNS}, retry_limit FROM jobs
            WHERE id = %(id)s AND attempt = %(attempt)s AND status = 'active' FOR UPDATE
            """,
            {"id": str(job_id), "attempt": attempt},
        )
        if job is None:
            return None
        ending: dict[str, Any] = {"error": error, "traceback": traceback, "progress": progress}
        left = job["max_attempts"] + job["rescues"] - job["attempt"]
        if job["cancel_requested_at"] is not None:
            return _end_attempt(JobCancelled, job_id, attempt, execution_status="failed", **ending)
        if not error["retryable"] or left <= 0:
            return _end_attempt(JobFailed, job_id, attempt, **ending)
        delay = retry_in
        if delay is None:
            # Of this round: neither what was lost or handed back counts, nor what was before a retry by hand.
            failures = job["retry_limit"] + 1 - left
            delay = retry_delay(job["retry_strategy"], job["retry_delay"], failures, random.Random())
        return _end_attempt(
            JobRetrying,
            job_id,
            attempt,
            next_attempt_at=utcnow() + timedelta(seconds=delay),
            execution_status="failed",
            **ending,
        )


def stop_job(job_id: UUID, attempt: int, progress: Mapping[str, Any] | None = None) -> JobRow | None:
    """End an attempt whose body obeyed a cancel; None when the fence has moved."""
    return _end_attempt(JobCancelled, job_id, attempt, progress=progress)


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
        error = {"code": "worker_lost", "message": "The worker process died.", "retryable": False}
        if job["cancel_requested_at"] is not None:
            row = _end_attempt(JobCancelled, job_id, attempt, execution_status=LOST)
        elif job["rescues"] >= RESCUE_CAP:
            row = _end_attempt(JobFailed, job_id, attempt, error=error, execution_status=LOST)
        else:
            row = _end_attempt(JobQueued, job_id, attempt, execution_status=LOST)
        assert row is not None
    log.warning("attempt_lost", job_id=str(job_id), attempt=attempt, status=row["status"])
    return row


def hand_back_job(job_id: UUID, attempt: int, worker: str) -> JobRow | None:
    """Queue a job again that a worker runs which stops, as if this attempt had not been; None when it does not run it.

    The attempt is recorded, but neither spent nor counted as lost: any number of deploys leaves the job its attempts. A
    job that somebody asked to cancel ends as cancelled.
    """
    with transaction():
        job = fetch_one(
            """
            SELECT cancel_requested_at FROM jobs
            WHERE id = %(id)s AND attempt = %(attempt)s AND worker = %(worker)s AND status = 'active' FOR UPDATE
            """,
            {"id": str(job_id), "attempt": attempt, "worker": worker},
        )
        if job is None:
            return None
        event_type = JobQueued if job["cancel_requested_at"] is None else JobCancelled
        row = _end_attempt(event_type, job_id, attempt, execution_status=HANDED_BACK)
        assert row is not None
    log.info("job_handed_back", job_id=str(job_id), attempt=attempt, status=row["status"])
    return row


def renew_lease(job_id: UUID, attempt: int) -> JobRow | None:
    """Hold on to a running attempt for another 30 s; its row, or None when it has been given away."""
    with transaction():
        return fetch_one(
            f"""
            UPDATE jobs SET lease_expires_at = {LEASE_END}
            WHERE id = %(id)s AND attempt = %(attempt)s AND status = 'active'
            RETURNING cancel_requested_at
            """,
            {"id": str(job_id), "attempt": attempt},
        )


def read_attempt(job_id: UUID, attempt: int) -> JobRow | None:
    """Whether an attempt still runs, and whether somebody asked to cancel it; None when it has been given away."""
    with transaction():
        return fetch_one(
            "SELECT cancel_requested_at FROM jobs WHERE id = %(id)s AND attempt = %(attempt)s AND status = 'active'",
            {"id": str(job_id), "attempt": attempt},
        )


RELEASE = f"""
job AS (
    UPDATE jobs SET status = 'queued', next_attempt_at = NULL, dispatched_at = NULL, version = version + 1,
        unique_held = unique_held AND ('queued' = ANY(unique_states) OR coalesce(unique_until > %(now)s, false))
    WHERE id IN (
        SELECT id FROM jobs WHERE status IN ('scheduled', 'retrying') AND next_attempt_at <= %(now)s
        ORDER BY next_attempt_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
    RETURNING {RETURNED})
"""


def release_due() -> int:
    """Queue the scheduled and retrying jobs whose time has come; how many."""
    return len(transition(JobQueued, RELEASE, {"now": utcnow(), "batch": BATCH}))


EXPIRE = f"""
job AS (
    UPDATE jobs SET status = 'failed', completed_at = %(now)s, next_attempt_at = NULL, version = version + 1,
        error = %(error)s, unique_held = unique_held AND coalesce(unique_until > %(now)s, false)
    WHERE id IN (
        SELECT id FROM jobs WHERE status IN ('scheduled', 'blocked', 'queued', 'retrying') AND expires_at <= %(now)s
        ORDER BY expires_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
    RETURNING {RETURNED})
"""


def expire_due() -> int:
    """Fail the jobs that have waited for longer than they may; how many."""
    error = {"code": "expired", "message": "The job waited for longer than it may.", "retryable": False}
    parameters = {"now": utcnow(), "batch": BATCH, "error": json.dumps(error)}
    return len(transition(JobFailed, EXPIRE, parameters, known={"error": error}))


REDISPATCH = f"""
UPDATE jobs SET dispatched_at = %(now)s
WHERE id IN (
    SELECT id FROM jobs WHERE status = 'queued' AND queue = %(queue)s AND dispatched_at < %(overdue)s
    ORDER BY dispatched_at LIMIT %(missing)s FOR UPDATE SKIP LOCKED)
RETURNING {COLUMNS}
"""


def relay() -> int:
    """Send again the messages that the broker has lost; how many.

    Compares what SQL has sent with what the broker holds, so that a long backlog is not sent twice. What a worker
    has reserved may be sent again: the claim makes that harmless.
    """
    sent = 0
    for queue in queues():
        now = utcnow()
        parameters = {"queue": queue, "now": now, "overdue": now - timedelta(seconds=RELAY_AFTER_SECONDS)}
        with transaction():
            jobs = fetch_one(
                """
                SELECT count(*) AS sent, count(*) FILTER (WHERE dispatched_at < %(overdue)s) AS overdue FROM jobs
                WHERE status = 'queued' AND queue = %(queue)s AND dispatched_at IS NOT NULL
                """,
                parameters,
            )
        assert jobs is not None
        # All messages are held against all jobs: those of young jobs must not pass for those of old ones.
        missing = min(jobs["overdue"], jobs["sent"] - depth(queue), MAXIMUM_RELAYED) if jobs["overdue"] else 0
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

    An attempt that Celery's result backend knows to have ended, because SQL could not be told, is ended so, instead of
    running again.
    """
    with transaction():
        expired = fetch_all(
            f"""
            SELECT id, attempt FROM jobs WHERE status = 'active' AND lease_expires_at < clock_timestamp()
                AND pg_postmaster_start_time() + {RESTART_GRACE} < clock_timestamp()
            ORDER BY lease_expires_at LIMIT %(batch)s
            """,
            {"batch": BATCH},
        )
    for job in expired:
        job_id, attempt = UUID(str(job["id"])), job["attempt"]
        try:
            _rescue(job_id, attempt)
        except (OperationalError, *BROKER_ERRORS):
            # No better with the next one.
            raise
        except Exception:
            log.exception("rescue_failed", job_id=str(job_id), attempt=attempt)
    return len(expired)


def _rescue(job_id: UUID, attempt: int) -> None:
    state, outcome = attempt_outcome(job_id, attempt)
    if state == "SUCCESS":
        complete_job(job_id, attempt, outcome)
    else:
        lose_attempt(job_id, attempt)
