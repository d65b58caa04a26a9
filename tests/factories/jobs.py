"""Jobs that ran, without Celery."""

from __future__ import annotations

from uuid import UUID

from flask import Flask

from service.events import JobRow
from service.jobs import lifecycle
from service.jobs.submission import Submission, submit_job
from service.queue import queues
from service.queues.dispatch import Windows, dispatch
from tests.conftest import Account


def send_held() -> None:
    """Send every held job that no limit holds back, however many messages wait."""
    while dispatch(Windows(dict.fromkeys(queues(), 1_000_000))).moved:
        continue


def start(job_id: UUID, attempt: int = 1) -> JobRow | None:
    """Claim an attempt as a worker does; a job that was held is sent first."""
    send_held()
    return lifecycle.start_job(job_id, attempt, "w")


def run_a_job(app: Flask, user: Account) -> UUID:
    """A demo job from submission to completion; its id."""
    with app.app_context():
        submission = Submission(type="demo-steps", payload={"steps": 1})
        row = submit_job(submission, organization_id=user.organization_id, user_id=user.id).row
        job_id = UUID(str(row["id"]))
        lifecycle.start_job(job_id, 1, "w")
        lifecycle.complete_job(job_id, 1, {"steps": 1})
    return job_id
