"""Jobs that a stopping worker hands back: as if the attempt had not been, but on record."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update

from service.clock import utcnow
from service.database import db, transaction
from service.events import JobRow
from service.jobs import lifecycle
from service.jobs.actions import cancel_job, retry_job
from service.jobs.models import Job, JobExecution
from service.jobs.representation import allowed_attempts
from service.jobs.submission import Submission, submit_job
from tests.conftest import Account, MakeUser
from tests.factories.jobs import start

pytestmark = pytest.mark.usefixtures("in_app")

FAILURE = {"code": "value_error", "message": "no", "retryable": True}


def submit(user: Account, **options: Any) -> UUID:
    """A queued demo job of a user."""
    submission = Submission(type="demo-steps", payload={"steps": 1}, **options)
    row = submit_job(submission, organization_id=user.organization_id, user_id=user.id).row
    return UUID(str(row["id"]))


def job(job_id: UUID) -> Job:
    """The job as it stands in the database now."""
    db.session.rollback()
    return db.session.scalars(select(Job).where(Job.id == job_id).execution_options(populate_existing=True)).one()


def executions(job_id: UUID) -> list[tuple[int, str]]:
    """(attempt, status) of each finished attempt."""
    query = select(JobExecution).where(JobExecution.job_id == job_id).order_by(JobExecution.attempt)
    return [(each.attempt, each.status) for each in db.session.scalars(query)]


def hand_back(job_id: UUID, attempt: int) -> None:
    """An attempt from its start to its being handed back."""
    assert start(job_id, attempt) is not None
    row = lifecycle.hand_back_job(job_id, attempt, "w")
    assert row is not None
    assert row["status"] == "queued"


def fail(job_id: UUID, attempt: int) -> JobRow:
    """An attempt from its start to its failure; the job right after, whose next attempt now may begin at once."""
    assert start(job_id, attempt) is not None
    failed = lifecycle.fail_job(job_id, attempt, FAILURE)
    assert failed is not None
    with transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(next_attempt_at=utcnow()))
    lifecycle.release_due()
    return failed


def test_a_job_that_is_handed_back_keeps_all_its_attempts(make_user: MakeUser) -> None:
    job_id = submit(make_user(), retry_limit=0)
    for attempt in range(1, 2 * lifecycle.RESCUE_CAP):
        hand_back(job_id, attempt)
    number = 2 * lifecycle.RESCUE_CAP
    waiting = job(job_id)
    assert (waiting.attempt, waiting.max_attempts, waiting.rescues) == (number - 1, number, 0)
    assert start(job_id, number) is not None
    assert lifecycle.complete_job(job_id, number, None) is not None
    assert executions(job_id) == [*((each, "handed_back") for each in range(1, number)), (number, "completed")]


def test_failures_around_a_handing_back_are_counted_as_if_it_had_not_been(make_user: MakeUser) -> None:
    job_id = submit(make_user(), retry_limit=2, retry_delay=100.0, retry_strategy="exponential")
    assert fail(job_id, 1)["status"] == "retrying"
    for attempt in (2, 3, 4):
        hand_back(job_id, attempt)
    before = utcnow()
    second = fail(job_id, 5)
    assert second["status"] == "retrying"
    # Twice the base, ±10 %: the second failure.
    assert timedelta(seconds=175) < second["next_attempt_at"] - before < timedelta(seconds=225)
    assert fail(job_id, 6)["status"] == "failed"


def test_a_retry_by_hand_gives_a_handed_back_job_its_round_and_its_first_delay_again(make_user: MakeUser) -> None:
    job_id = submit(make_user(), retry_limit=1, retry_delay=100.0, retry_strategy="exponential")
    hand_back(job_id, 1)
    fail(job_id, 2)
    assert fail(job_id, 3)["status"] == "failed"
    retry_job(job_id)
    hand_back(job_id, 4)
    before = utcnow()
    failed = fail(job_id, 5)
    assert (failed["status"], failed["attempt"], failed["max_attempts"]) == ("retrying", 5, 6)
    assert timedelta(seconds=85) < failed["next_attempt_at"] - before < timedelta(seconds=115)
    assert fail(job_id, 6)["status"] == "failed"


def test_a_job_that_was_to_be_cancelled_is_cancelled_instead(make_user: MakeUser) -> None:
    job_id = submit(make_user())
    start(job_id)
    cancel_job(job_id, "enough")
    row = lifecycle.hand_back_job(job_id, 1, "w")
    assert row is not None
    assert (row["status"], row["cancel_reason"], allowed_attempts(row)) == ("cancelled", "enough", 4)
    assert executions(job_id) == [(1, "handed_back")]


def test_only_the_worker_that_runs_an_attempt_hands_it_back(make_user: MakeUser) -> None:
    job_id = submit(make_user())
    start(job_id)
    assert lifecycle.hand_back_job(job_id, 1, "another") is None
    assert lifecycle.hand_back_job(job_id, 2, "w") is None
    assert lifecycle.complete_job(job_id, 1, None) is not None
    assert lifecycle.hand_back_job(job_id, 1, "w") is None
    assert executions(job_id) == [(1, "completed")]
