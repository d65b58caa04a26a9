"""Every step of a job's way in SQL: claims, fences, endings, rescue, release."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import select, update
from sqlalchemy.exc import DataError

from service.clock import utcnow
from service.database import db, fetch_all, transaction
from service.jobs import lifecycle
from service.jobs.actions import cancel_job, retry_job
from service.jobs.errors import JobNotCancellable, JobNotRetryable
from service.jobs.models import Job, JobExecution
from service.jobs.representation import job_json
from service.jobs.states import MOVES, STATUSES
from service.jobs.submission import Submission, submit_job
from service.queue import celery_app
from tasks.lease import until_written
from tests.conftest import Account, MakeUser
from tests.factories.jobs import send_held, start
from tests.factories.untellable import make_tellable, make_untellable

pytestmark = pytest.mark.usefixtures("in_app")

Until = Callable[..., Any]

FAILURE = {"code": "value_error", "message": "no", "retryable": True}
PERMANENT = {"code": "gone", "message": "never", "retryable": False}


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


def test_a_job_is_claimed_once(make_user: MakeUser) -> None:
    job_id = submit(make_user())
    first = lifecycle.start_job(job_id, 1, "worker-1")
    assert first is not None
    assert (first["status"], first["attempt"], first["worker"]) == ("active", 1, "worker-1")
    assert lifecycle.start_job(job_id, 1, "worker-2") is None


def test_of_many_claims_at_once_one_wins(app: Flask, make_user: MakeUser) -> None:
    job_id = submit(make_user())
    barrier = threading.Barrier(8)
    won: list[bool] = []

    def claim() -> None:
        with app.app_context():
            barrier.wait()
            won.append(start(job_id, 1) is not None)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


def test_a_message_of_another_attempt_claims_nothing(make_user: MakeUser) -> None:
    job_id = submit(make_user())
    assert start(job_id, 2) is None
    start(job_id, 1)
    lifecycle.fail_job(job_id, 1, FAILURE)
    with transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(next_attempt_at=utcnow()))
    lifecycle.release_due()
    assert start(job_id, 1) is None, "the message of the first attempt came again"
    assert start(job_id, 2) is not None


def test_the_end_is_written_once(make_user: MakeUser) -> None:
    job_id = submit(make_user())
    start(job_id, 1)
    done = lifecycle.complete_job(job_id, 1, {"n": 1}, {"current": 1, "total": 1, "percentage": 100})
    assert done is not None
    assert lifecycle.complete_job(job_id, 1, {"n": 2}) is None
    assert lifecycle.fail_job(job_id, 1, FAILURE) is None
    ended = job(job_id)
    assert (ended.status, ended.result, ended.version) == ("completed", {"n": 1}, 3)
    assert ended.progress == {"current": 1, "total": 1, "percentage": 100}
    assert executions(job_id) == [(1, "completed")]


def test_a_result_may_be_any_json(make_user: MakeUser) -> None:
    for result in (None, "text", 0, False, [1, "two"], {"ü": "\u2603"}):
        job_id = submit(make_user())
        start(job_id, 1)
        lifecycle.complete_job(job_id, 1, result)
        assert job(job_id).result == result


def test_a_failure_is_retried_until_the_attempts_are_spent(make_user: MakeUser) -> None:
    job_id = submit(make_user(), retry_limit=1, retry_delay=100.0, retry_strategy="fixed")
    start(job_id, 1)
    lifecycle.fail_job(job_id, 1, FAILURE, "Traceback …")
    waiting = job(job_id)
    assert waiting.status == "retrying"
    assert waiting.next_attempt_at is not None
    assert timedelta(seconds=85) < waiting.next_attempt_at - utcnow() < timedelta(seconds=115)
    with transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(next_attempt_at=utcnow()))
    lifecycle.release_due()
    assert job(job_id).status == "queued"
    start(job_id, 2)
    lifecycle.fail_job(job_id, 2, FAILURE)
    dead = job(job_id)
    assert dead.status == "failed"
    assert dead.error == FAILURE
    assert executions(job_id) == [(1, "failed"), (2, "failed")]


def test_a_permanent_failure_is_final_at_once(make_user: MakeUser) -> None:
    job_id = submit(make_user(), retry_limit=5)
    start(job_id, 1)
    lifecycle.fail_job(job_id, 1, PERMANENT)
    assert job(job_id).status == "failed"


def test_a_dead_letter_gets_a_full_round_when_it_is_retried(make_user: MakeUser) -> None:
    job_id = submit(make_user(), retry_limit=0)
    for attempt in (1, 2, 3):
        start(job_id, attempt)
        lifecycle.fail_job(job_id, attempt, FAILURE)
        assert job(job_id).status == "failed"
        retry_job(job_id)
        again = job(job_id)
        assert (again.status, again.error, again.max_attempts) == ("queued", None, attempt + 1)
    with pytest.raises(JobNotRetryable):
        retry_job(job_id)


def test_waiting_jobs_are_cancelled_at_once_and_running_ones_asked(make_user: MakeUser) -> None:
    user = make_user()
    queued = submit(user)
    later = submit(user, run_at=utcnow() + timedelta(hours=1))
    assert job(later).status == "scheduled"
    for job_id in (queued, later):
        assert cancel_job(job_id, "no need")["status"] == "cancelled"
        assert job(job_id).cancel_reason == "no need"
        with pytest.raises(JobNotCancellable):
            cancel_job(job_id)
        assert start(job_id, 1) is None
    running = submit(user)
    start(running, 1)
    assert cancel_job(running, "stop")["status"] == "active"
    seen = lifecycle.read_attempt(running, 1)
    assert seen is not None
    assert seen["cancel_requested_at"] is not None
    lifecycle.stop_job(running, 1)
    assert job(running).status == "cancelled"
    assert lifecycle.complete_job(running, 1, {}) is None, "cancelled never becomes completed"


def test_a_cancelled_job_that_fails_is_not_tried_again(make_user: MakeUser) -> None:
    job_id = submit(make_user(), retry_limit=5)
    start(job_id, 1)
    cancel_job(job_id)
    lifecycle.fail_job(job_id, 1, FAILURE)
    assert job(job_id).status == "cancelled"


def test_the_job_of_a_dead_worker_runs_again_without_spending_an_attempt(make_user: MakeUser, until: Until) -> None:
    job_id = submit(make_user(), retry_limit=0)
    start(job_id, 1)
    with transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=utcnow()))
    # A server that has just started gives living workers time to renew their leases.
    until(lifecycle.rescue, "the rescue")
    assert job(job_id).status == "queued"
    assert lifecycle.complete_job(job_id, 1, "late") is None, "the dead worker was only slow: its fence has moved"
    again = start(job_id, 2)
    assert again is not None
    assert job_json(again)["maxAttempts"] == 2, "how often it may start grows with a rescue"
    lifecycle.fail_job(job_id, 2, FAILURE)
    assert job(job_id).status == "failed", "its own failure does spend the attempt"
    assert executions(job_id) == [(1, "lost"), (2, "failed")]


def test_poison_is_not_rescued_for_ever(make_user: MakeUser) -> None:
    job_id = submit(make_user())
    for attempt in range(1, lifecycle.RESCUE_CAP + 2):
        start(job_id, attempt)
        lifecycle.lose_attempt(job_id, attempt)
    dead = job(job_id)
    assert dead.status == "failed"
    assert dead.error is not None
    assert dead.error["code"] == "worker_lost"


def test_a_rescue_uses_the_result_that_could_not_be_written(make_user: MakeUser, until: Until) -> None:
    job_id = submit(make_user())
    start(job_id, 1)
    celery_app.backend.store_result(f"{job_id}.1", {"kept": True}, "SUCCESS")
    with transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=utcnow()))
    until(lifecycle.rescue, "the rescue")
    assert (job(job_id).status, job(job_id).result) == ("completed", {"kept": True})


def test_a_result_that_cannot_be_stored_does_not_stand_in_the_way_of_others(make_user: MakeUser, until: Until) -> None:
    user = make_user()
    refused, lost = submit(user), submit(user)
    for job_id in (refused, lost):
        start(job_id, 1)
    celery_app.backend.store_result(f"{refused}.1", "a\x00b", "SUCCESS")
    with transaction() as session:
        session.execute(update(Job).where(Job.id.in_([refused, lost])).values(lease_expires_at=utcnow()))
    until(lambda: lifecycle.rescue() or job(lost).status == "queued", "the rescue")
    assert job(lost).status == "queued"
    error = job(refused).error
    assert error is not None
    assert (job(refused).status, error["code"]) == ("failed", "invalid_result")


def test_a_rescue_that_fails_does_not_stand_in_the_way_of_others(make_user: MakeUser, until: Until) -> None:
    owner = make_user()
    broken, lost = submit(owner), submit(make_user())
    for job_id in (broken, lost):
        start(job_id, 1)
    celery_app.backend.store_result(f"{broken}.1", {"kept": True}, "SUCCESS")
    make_untellable(owner.id)
    for job_id, ago in ((broken, 2), (lost, 1)):
        with transaction() as session:
            ends = utcnow() - timedelta(seconds=ago)
            session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=ends))
    until(lambda: lifecycle.rescue() and job(lost).status == "queued", "the rescue")
    assert job(broken).status == "active"
    make_tellable(owner.id)
    lifecycle.rescue()
    assert (job(broken).status, job(broken).result) == ("completed", {"kept": True})


def nested(levels: int) -> list[Any]:
    """Lists in lists."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.fixture
def deep_stack() -> Iterator[None]:
    """Threads begun in the test may write JSON of any depth, as some Pythons let every thread."""
    size, limit = threading.stack_size(512 << 20), sys.getrecursionlimit()
    sys.setrecursionlimit(500_000)
    yield
    sys.setrecursionlimit(limit)
    threading.stack_size(size)


def end_with(app: Flask, job_id: UUID, result: Any) -> float:
    """End a job as a worker does, in a thread of its own; how many seconds that took."""
    began = time.monotonic()

    def end() -> None:
        with app.app_context():
            until_written(lambda: lifecycle.complete_job(job_id, 1, result))

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    thread.join(30)
    return time.monotonic() - began


def is_refused(job_id: UUID) -> bool:
    """Whether the job has failed for its result."""
    error = job(job_id).error
    return job(job_id).status == "failed" and error is not None and error["code"] == "invalid_result"


def test_a_result_too_deep_for_python_fails_the_job_at_once(app: Flask, make_user: MakeUser) -> None:
    job_id = submit(make_user())
    start(job_id, 1)
    assert end_with(app, job_id, nested(20_000)) < 30
    assert is_refused(job_id)


@pytest.mark.usefixtures("deep_stack")
def test_a_result_too_deep_for_postgresql_fails_the_job_at_once(app: Flask, make_user: MakeUser) -> None:
    job_id = submit(make_user())
    start(job_id, 1)
    assert end_with(app, job_id, nested(20_000)) < 30
    assert is_refused(job_id)


def test_what_exceeds_a_limit_of_the_server_is_not_tried_again() -> None:
    with pytest.raises(DataError, match="array size exceeds"), transaction():
        fetch_all("SELECT array_fill(0, ARRAY[1000000000])", {})


def test_a_retry_by_hand_forgets_earlier_rescues(make_user: MakeUser) -> None:
    job_id = submit(make_user(), retry_limit=0)
    for attempt in range(1, lifecycle.RESCUE_CAP + 2):
        start(job_id, attempt)
        lifecycle.lose_attempt(job_id, attempt)
    retry_job(job_id)
    attempt = lifecycle.RESCUE_CAP + 2
    start(job_id, attempt)
    lifecycle.lose_attempt(job_id, attempt)
    assert job(job_id).status == "queued"


def test_relay_sends_what_the_broker_lost_and_no_more(make_user: MakeUser, app: Flask) -> None:
    user = make_user()
    lifecycle.relay()
    with celery_app.connection_for_write() as connection:
        connection.default_channel.queue_purge("default")
    old = utcnow() - timedelta(minutes=1)
    jobs = [submit(user) for _ in range(5)]
    send_held()
    with transaction() as session:
        # Whatever other tests left queued has no message any more, and is not of this one.
        others = (Job.status == "queued", Job.user_id != user.id)
        session.execute(update(Job).where(*others).values(status="cancelled"))
        session.execute(update(Job).where(Job.id.in_(jobs)).values(dispatched_at=old))
    assert lifecycle.relay() == 0, "the messages are there"
    with celery_app.connection_for_write() as connection:
        connection.default_channel.queue_purge("default")
    assert lifecycle.relay() == 5
    assert lifecycle.relay() == 0, "they have been sent a moment ago"


def test_every_move_in_sql_is_one_that_the_states_allow() -> None:
    assert set(MOVES) == set(STATUSES)
    assert {after for moves in MOVES.values() for after in moves} <= set(STATUSES)
