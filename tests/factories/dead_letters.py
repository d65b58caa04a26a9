"""Jobs that failed for good, without Celery."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from service.jobs import lifecycle
from service.jobs.submission import Submission, submit_job
from tests.conftest import Account
from tests.factories.jobs import start


def submit(user: Account, **options: Any) -> UUID:
    """A job of a user that waits."""
    submission = Submission(**{"type": "demo-steps", "payload": {"steps": 1}, **options})
    row = submit_job(submission, organization_id=user.organization_id, user_id=user.id).row
    return UUID(str(row["id"]))


def dead_letter(user: Account, message: str = "It broke.", code: str = "boom", **options: Any) -> UUID:
    """A job of a user that failed with this error."""
    job_id = submit(user, **options)
    fail(job_id, message, code)
    return job_id


def fail(job_id: UUID, message: str = "It broke.", code: str = "boom", attempt: int = 1) -> None:
    """Start a job and fail it for good."""
    started = start(job_id, attempt)
    assert started is not None, f"{job_id} did not start"
    lifecycle.fail_job(job_id, attempt, {"code": code, "message": message, "retryable": False})
