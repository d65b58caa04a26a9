"""What a time of a schedule means while a job of the schedule has not ended."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

from service.database import fetch_all
from service.jobs.actions import cancel_job
from service.jobs.dependencies import CONTINUE, Dependency
from service.jobs.errors import JobNotCancellable
from service.jobs.states import ACTIVE, BLOCKED
from service.jobs.submission import Submission

ALLOW = "allow"
SKIP = "skip"
BUFFER = "buffer"
CANCEL = "cancel"
POLICIES = (ALLOW, SKIP, BUFFER, CANCEL)

# A schedule that lets no jobs run side by side has few that have not ended, and they are its newest.
LOOKED_AT = 100
CANCEL_REASON = "The next run of its schedule has come."


def without_overlap(schedule_id: UUID, policy: str, submission: Submission) -> Submission | None:
    """The submission as the policy lets it go, or None where this time is skipped; cancels what it has to.

    A job of the buffer, and one whose predecessor was cancelled and still runs, waits for those before it to end.
    """
    if policy == ALLOW:
        return submission
    unfinished = _unfinished(schedule_id)
    if not unfinished:
        return submission
    if policy == SKIP or (policy == BUFFER and any(job["status"] == BLOCKED for job in unfinished)):
        return None
    jobs = [job["id"] for job in unfinished]
    if policy == CANCEL:
        jobs = [job_id for job_id in jobs if _still_runs(job_id)]
    return replace(submission, depends_on=[Dependency(job_id=each, on_failure=CONTINUE) for each in jobs])


def _still_runs(job_id: UUID) -> bool:
    """Whether a job that is cancelled now has not stopped yet."""
    with suppress(JobNotCancellable):
        return bool(cancel_job(job_id, CANCEL_REASON)["status"] == ACTIVE)
    return False


def _unfinished(schedule_id: UUID) -> Sequence[dict[str, Any]]:
    rows = fetch_all(
        f"""
        SELECT id, status FROM (
            SELECT id, status FROM jobs WHERE schedule_id = %(schedule_id)s
            ORDER BY id DESC LIMIT {LOOKED_AT}) AS newest
        WHERE status NOT IN ('completed', 'failed', 'cancelled') ORDER BY id
        """,
        {"schedule_id": str(schedule_id)},
    )
    return [{"id": UUID(str(row["id"])), "status": row["status"]} for row in rows]
