"""Which held jobs are sent, in which order, and what holds them back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import select, text, update

from service.clock import utcnow
from service.database import db, transaction
from service.jobs import lifecycle
from service.jobs.limits import WINDOW, Limit, Rate, key_subject, tenant_subject, type_subject, user_subject
from service.jobs.models import Job
from service.jobs.submission import SENT_AT_ONCE, Submission, submit_job, submit_jobs
from service.queue import celery_app, depth, job_and_attempt
from service.queues.actions import drain_queue, pause_queue, remove_limit, resume_queue, set_limit
from service.queues.dispatch import LEAST_AHEAD, Windows, dispatch, jobs_are_held
from service.queues.models import JobLimit, RateBucket
from tests.conftest import Account, MakeUser

pytestmark = pytest.mark.usefixtures("alone")

DEMO = "demo-steps"


@pytest.fixture
def alone(app: Flask) -> Iterator[None]:
    """No other test's jobs wait, no limit is set and the queue runs, before and after."""
    with app.app_context():
        _clear()
        yield
        db.session.rollback()
        _clear()


def _clear() -> None:
    resume_queue("default")
    with transaction() as session:
        session.execute(update(Job).where(Job.status.in_(("queued", "active"))).values(status="cancelled"))
        session.query(JobLimit).delete()
        session.query(RateBucket).delete()
    with celery_app.connection_for_write() as connection:
        connection.default_channel.queue_purge("default")


def submit(user: Account, count: int = 1, **options: Any) -> list[UUID]:
    """Demo jobs of a user, in one batch."""
    submissions = [Submission(type=DEMO, payload={"steps": 1}, **options) for _ in range(count)]
    accepted = submit_jobs(submissions, organization_id=user.organization_id, user_id=user.id)
    return [UUID(str(each.row["id"])) for each in accepted]


def sent() -> list[UUID]:
    """The queued jobs whose messages were sent, in the order of their ids."""
    db.session.rollback()
    query = select(Job.id).where(Job.status == "queued", Job.dispatched_at.is_not(None))
    return list(db.session.scalars(query.order_by(Job.id)))


def work_off(job_id: UUID) -> None:
    """Run a job from its message to its end."""
    assert lifecycle.start_job(job_id, 1, "w") is not None
    lifecycle.complete_job(job_id, 1, {})


def next_message() -> UUID:
    """The job whose message a worker would get next."""
    with celery_app.connection_for_read() as connection:
        message = connection.default_channel.basic_get("default", no_ack=True)
    assert message is not None
    return job_and_attempt(message.headers["id"])[0]


def settle() -> None:
    """Look at the held jobs until nothing moves any more."""
    windows = Windows()
    for _ in range(100):
        if not dispatch(windows).moved:
            return
    pytest.fail("the dispatch does not come to rest")


def test_a_lone_job_is_sent_with_its_submission(make_user: MakeUser) -> None:
    jobs = submit(make_user())
    assert sent() == jobs
    assert not jobs_are_held()


def test_a_crowd_is_held_and_follows_as_the_workers_go_on(make_user: MakeUser) -> None:
    jobs = submit(make_user(), 300)
    assert sent() == jobs[:SENT_AT_ONCE]
    windows = Windows()
    done: list[UUID] = []
    for _ in range(200):
        dispatch(windows)
        waiting = sent()
        assert len(waiting) < len(jobs) - SENT_AT_ONCE, "not all at once: who comes later would be behind all of them"
        for job_id in waiting:
            work_off(job_id)
        done += waiting
        if len(done) == len(jobs):
            break
    assert done == jobs, "in the order of their submission, each once"


def test_a_tenants_thousand_jobs_do_not_hold_up_anothers_ten(make_user: MakeUser) -> None:
    crowd, few = make_user(), make_user()
    submit(crowd, 1000)
    mine = submit(few, 10)
    windows = Windows()
    done = 0
    for _ in range(100):
        dispatch(windows)
        # A slow worker: one job between two looks.
        work_off(next_message())
        done += 1
        db.session.rollback()
        left = db.session.scalars(select(Job.id).where(Job.id.in_(mine), Job.status == "queued")).all()
        if not left:
            break
    assert not left
    assert done <= 2 * len(mine) + 2 * LEAST_AHEAD + SENT_AT_ONCE, "the tenants took turns"


def test_the_next_look_comes_as_late_as_the_workers_pace_allows(make_user: MakeUser) -> None:
    now = [0.0]
    submit(make_user(), 100)
    windows = Windows(clock=lambda: now[0])

    def look_after(seconds: float, ended: int) -> float | None:
        now[0] += seconds
        for job_id in sent()[:ended]:
            work_off(job_id)
        return dispatch(windows).lasts

    assert look_after(0, ended=0) == 0.0, "nobody knows how fast they go"
    # So many more might have gone.
    few = LEAST_AHEAD
    assert look_after(0.5, ended=0) == pytest.approx(len(sent()) * 0.5 / few), "nothing goes"
    assert look_after(0.5, ended=len(sent())) == 0.0, "all are gone, and may have been gone for long"
    assert look_after(0.5, ended=2) == pytest.approx(len(sent()) * 0.5 / (few + 2)), "four a second"
    windows.rest(0.9)
    assert look_after(1.0, ended=1) == pytest.approx(len(sent()) * 0.1 / (few + 1)), "it began a tenth of a second ago"


def test_jobs_that_idle_workers_start_at_once_are_not_their_pace(make_user: MakeUser) -> None:
    now = [0.0]
    submit(make_user(), 300)
    windows = Windows(clock=lambda: now[0])
    dispatch(windows)
    waiting = sent()
    for job_id in waiting[:6]:
        assert lifecycle.start_job(job_id, 1, "w") is not None
    for _ in range(4):
        now[0] += 0.025
        dispatch(windows)
    assert len(sent()) <= 2 * len(waiting), "six workers have begun six long jobs"


def test_a_higher_priority_overtakes_held_and_sent_jobs(make_user: MakeUser) -> None:
    user = make_user()
    submit(user, 50, priority=20)
    settle()
    urgent = submit(user, 6, priority=90)
    settle()
    assert set(urgent[:LEAST_AHEAD]) <= set(sent())


def test_a_paused_queue_starts_nothing_and_goes_on_where_it_was(make_user: MakeUser) -> None:
    user = make_user()
    first, running = submit(user), submit(user)
    assert lifecycle.start_job(running[0], 1, "w") is not None
    pause_queue("default")
    assert lifecycle.start_job(first[0], 1, "w") is None, "a worker that has the message already obeys too"
    second = submit(user)
    settle()
    assert sent() == []
    lifecycle.complete_job(running[0], 1, {})
    resume_queue("default")
    settle()
    assert sent() == [*first, *second]
    for job_id in (*first, *second):
        work_off(job_id)


def test_a_pause_is_obeyed_by_a_job_that_comes_back(make_user: MakeUser) -> None:
    [job_id] = submit(make_user())
    lifecycle.start_job(job_id, 1, "w")
    pause_queue("default")
    lifecycle.lose_attempt(job_id, 1)
    settle()
    assert sent() == []
    resume_queue("default")
    settle()
    assert sent() == [job_id]


def test_a_draining_queue_works_off_what_it_has(make_user: MakeUser) -> None:
    user = make_user()
    old = submit(user, 20)
    drain_queue("default")
    new = submit(user, 5)
    settle()
    for _ in range(20):
        for job_id in sent():
            work_off(job_id)
        settle()
    db.session.rollback()
    assert set(db.session.scalars(select(Job.status).where(Job.id.in_(old)))) == {"completed"}
    assert set(db.session.scalars(select(Job.status).where(Job.id.in_(new)))) == {"queued"}
    assert sent() == []
    resume_queue("default")
    settle()
    assert sent() == new


@pytest.mark.parametrize("scope", ["type", "user", "tenant"])
def test_no_more_jobs_run_at_once_than_a_limit_allows(make_user: MakeUser, scope: str) -> None:
    user, other = make_user(), make_user()
    subject = {
        "type": type_subject(DEMO),
        "user": user_subject(user.id),
        "tenant": tenant_subject(user.organization_id),
    }[scope]
    set_limit(subject, Limit(concurrency=3))
    jobs = submit(user, 10)
    # Of the same type, so another tenant's would take turns with these.
    free = [] if scope == "type" else submit(other, 2)
    settle()
    assert [job_id for job_id in sent() if job_id in jobs] == jobs[:3]
    assert set(free) <= set(sent()), "others are not held up"
    for job_id in jobs[:3]:
        assert lifecycle.start_job(job_id, 1, "w") is not None
    settle()
    assert [job_id for job_id in sent() if job_id in jobs] == [], "what runs counts too"
    lifecycle.complete_job(jobs[1], 1, {})
    settle()
    assert [job_id for job_id in sent() if job_id in jobs] == [jobs[3]]
    remove_limit(subject)
    settle()
    assert len([job_id for job_id in sent() if job_id in jobs]) > 3


def test_jobs_with_a_key_run_one_at_a_time_and_hold_up_nobody_else(make_user: MakeUser) -> None:
    user = make_user()
    same = submit(user, 300, concurrency_key="customer-1")
    other = submit(user, 1, concurrency_key="customer-2")
    without = submit(user, 1)
    settle()
    assert set(sent()) == {same[0], *other, *without}, "the ones behind a used-up limit are seen"
    for number in range(3):
        work_off(same[number])
        settle()
        assert same[number + 1] in sent()
        assert len([job_id for job_id in sent() if job_id in same]) == 1


def test_keys_of_two_tenants_are_two(make_user: MakeUser) -> None:
    [mine] = submit(make_user(), concurrency_key="k")
    [yours] = submit(make_user(), concurrency_key="k")
    settle()
    assert set(sent()) == {mine, yours}


def test_a_limited_job_that_fails_and_waits_lets_the_next_one_go(make_user: MakeUser) -> None:
    jobs = submit(make_user(), 2, concurrency_key="k", retry_delay=100.0)
    settle()
    lifecycle.start_job(jobs[0], 1, "w")
    lifecycle.fail_job(jobs[0], 1, {"code": "x", "message": "x", "retryable": True})
    settle()
    assert sent() == [jobs[1]]


def test_a_rate_lets_so_many_start_in_its_time(make_user: MakeUser) -> None:
    user = make_user()
    set_limit(type_subject(DEMO), Limit(rate=Rate(3, 3600.0, WINDOW)))
    jobs = submit(user, 5)
    settle()
    assert sent() == jobs[:3]
    for job_id in jobs[:3]:
        work_off(job_id)
    windows = Windows()
    passed = dispatch(windows)
    assert sent() == [], "that they have ended makes no room"
    assert passed.next_start is not None
    assert passed.next_start > utcnow()
    with transaction() as session:
        session.execute(text("UPDATE job_rate_buckets SET refilled_at = refilled_at - interval '1 hour'"))
    settle()
    assert sent() == jobs[3:]


def test_a_bucket_is_refilled_evenly(make_user: MakeUser, until: Any) -> None:
    set_limit(type_subject(DEMO), Limit(rate=Rate(5, 1.0)))
    jobs = submit(make_user(), 8)
    settle()
    begun = len(sent())
    assert 5 <= begun <= 6
    windows = Windows({"default": 1000})
    until(lambda: (dispatch(windows), len(sent()) == len(jobs))[1], "the others, one each fifth of a second", 5)


def test_a_limit_on_a_key_needs_no_limit_of_its_type(make_user: MakeUser) -> None:
    user = make_user()
    set_limit(key_subject(user.organization_id, DEMO, "big"), Limit(concurrency=2))
    jobs = submit(user, 5, concurrency_key="big")
    settle()
    assert sent() == jobs[:2]


def test_a_limit_of_nought_stops_a_type(make_user: MakeUser) -> None:
    set_limit(type_subject(DEMO), Limit(concurrency=0))
    submit(make_user(), 3)
    settle()
    assert sent() == []
    assert jobs_are_held()


def test_messages_of_one_pass_leave_in_one_go(make_user: MakeUser) -> None:
    submit(make_user(), 100)
    settle()
    assert depth("default") == len(sent())


def test_two_who_dispatch_at_once_send_each_job_once(app: Flask, make_user: MakeUser) -> None:
    set_limit(type_subject(DEMO), Limit(concurrency=7))
    submit(make_user(), 100)
    barrier = threading.Barrier(4)

    def look() -> None:
        with app.app_context():
            barrier.wait()
            for _ in range(5):
                dispatch(Windows({"default": 1000}))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sent()) == depth("default") == 7


def test_the_place_in_the_queue_is_told(make_user: MakeUser) -> None:
    user = make_user()
    submit(user, 5, priority=50)
    submission = Submission(type=DEMO, payload={"steps": 1}, priority=50)
    behind = submit_job(submission, organization_id=user.organization_id, user_id=user.id).row
    assert behind["ahead"] == 5
    before = submit_job(
        Submission(type=DEMO, payload={"steps": 1}, priority=51), organization_id=user.organization_id, user_id=user.id
    ).row
    assert before["ahead"] == 0
