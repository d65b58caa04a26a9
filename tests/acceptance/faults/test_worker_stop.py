"""SIGTERM of a worker: what is short finishes, what is long is handed back, and nothing is spent by it."""

from __future__ import annotations

import signal
import time
from typing import Any, cast

import pytest
from redis import Redis

from devstack.processes import Process
from tests.acceptance.platform import Person, Platform
from tests.acceptance.receiver import Post, Receiver
from tests.acceptance.waiting import until
from tests.acceptance.workers import Workers

pytestmark = pytest.mark.xdist_group("faults")

# From the end of the last job to the end of the process: about 3 s, more on a busy machine.
EXIT_SECONDS = 15.0
# The parent process leaves a child this long after it was told to end.
LAST_SECONDS = 5.0


def stop(worker: Process, seconds: float) -> None:
    """SIGTERM to the worker's parent process, which ends in good order within the time and leaves no children."""
    __tracebackhide__ = True
    children = worker.descendants()
    worker.send(signal.SIGTERM)
    until(lambda: not worker.running, lambda: f"the end of the worker; its log ends:\n{worker.log_tail()}", seconds)
    assert worker.returncode == 0
    until(lambda: not any(child.is_running() for child in children), "the end of its children", 1)


def wait_job(person: Person, seconds: float, **payload: Any) -> str:
    """A job that waits, once it runs; it may fail only once."""
    job_id = person.submit("demo-wait", {"seconds": seconds, **payload}, retryLimit=0)
    person.await_status(job_id, "active")
    return job_id


def test_short_jobs_finish_before_their_worker_ends(workers: Workers, platform: Platform, person: Person) -> None:
    worker = workers.start(concurrency=2, SHUTDOWN_GRACE_SECONDS="20")
    job_ids = [wait_job(person, 3) for _ in range(2)]
    stop(worker, 3 + EXIT_SECONDS)
    assert [platform.records.executions(job_id) for job_id in job_ids] == [[(1, "completed")]] * 2


def test_a_long_job_is_handed_back_and_goes_on_elsewhere_at_once(
    workers: Workers, platform: Platform, person: Person
) -> None:
    both = [workers.start(SHUTDOWN_GRACE_SECONDS="1") for _ in range(2)]
    job_id = wait_job(person, 8)
    first = workers.of(job_id)
    stop(first, 1 + EXIT_SECONDS)
    job = person.await_status(job_id, "completed")
    assert (job["attempt"], job["maxAttempts"], job["result"]) == (2, 2, {"attempt": 2})
    executions = platform.records.rows("SELECT * FROM job_executions WHERE job_id = %s ORDER BY attempt", job_id)
    assert [(each["attempt"], each["status"]) for each in executions] == [(1, "handed_back"), (2, "completed")]
    assert (executions[1]["started_at"] - executions[0]["finished_at"]).total_seconds() < 3
    assert workers.log_of(job_id) == [(1, "info", "Cleaned up"), (2, "info", "Cleaned up")]
    assert platform.records.job(job_id)["rescues"] == 0
    assert [worker.running for worker in both].count(True) == 1


def test_a_job_that_does_not_let_itself_be_ended_is_handed_back_all_the_same(
    workers: Workers, platform: Platform, person: Person
) -> None:
    for _ in range(2):
        workers.start(SHUTDOWN_GRACE_SECONDS="1")
    job_id = wait_job(person, 15, manner="ignores")
    stop(workers.of(job_id), 1 + LAST_SECONDS + EXIT_SECONDS)
    person.await_status(job_id, "completed", seconds=30)
    assert platform.records.executions(job_id) == [(1, "handed_back"), (2, "completed")]


def test_a_job_that_keeps_checkpoints_ends_as_soon_as_its_worker_stops(
    workers: Workers, platform: Platform, person: Person
) -> None:
    worker = workers.start(SHUTDOWN_GRACE_SECONDS="60")
    job_id = wait_job(person, 4, manner="yields")
    stop(worker, EXIT_SECONDS)
    assert platform.records.executions(job_id) == [(1, "handed_back")]
    workers.start()
    person.await_status(job_id, "completed")
    texts = [text for _, _, text in workers.log_of(job_id)]
    assert texts == ["Kept a checkpoint", "Cleaned up", "Cleaned up"]


def test_a_job_that_was_on_its_way_to_a_process_does_not_keep_the_worker(
    workers: Workers, platform: Platform, person: Person
) -> None:
    first = workers.start(SHUTDOWN_GRACE_SECONDS="1")
    (process,) = first.descendants()
    process.suspend()
    job_id = person.submit("demo-wait", {"seconds": 8}, retryLimit=0)
    until(lambda: platform.records.job(job_id)["dispatched_at"] and not messages(platform), "the message's end")
    first.send(signal.SIGTERM)
    until(lambda: "worker_stops" in first.log_tail(), "the worker's knowledge of its end")
    # Celery has forgotten the job by now; its process has not even begun.
    process.resume()
    stop(first, 1 + EXIT_SECONDS)
    workers.start()
    job = person.await_status(job_id, "completed")
    assert (job["attempt"], job["maxAttempts"]) in {(1, 1), (2, 2)}
    assert "lost" not in {status for _, status in platform.records.executions(job_id)}


def messages(platform: Platform) -> int:
    """How many messages wait in the broker for the workers of jobs."""
    with Redis.from_url(platform.stack.redis_url) as redis:
        return sum(cast(int, redis.llen(key)) for key in redis.scan_iter("carillon:broker:default*"))


def test_a_job_that_was_cancelled_is_not_handed_back(workers: Workers, platform: Platform, person: Person) -> None:
    worker = workers.start(SHUTDOWN_GRACE_SECONDS="0")
    job_id = wait_job(person, 60, manner="ignores")
    worker.send(signal.SIGTERM)
    person.ask("DELETE", f"/api/jobs/{job_id}", {"reason": "enough"})
    stop(worker, LAST_SECONDS + EXIT_SECONDS)
    assert person.job(job_id)["status"] == "cancelled"
    assert platform.records.executions(job_id) in ([(1, "handed_back")], [(1, "cancelled")])


@pytest.mark.timeout(240)
def test_five_rolling_restarts_do_not_make_a_long_job_poison(
    workers: Workers, platform: Platform, person: Person
) -> None:
    job_id = person.submit("demo-wait", {"seconds": 6}, retryLimit=0)
    for attempt in range(1, 6):
        worker = workers.start(SHUTDOWN_GRACE_SECONDS="0")
        until(lambda: platform.records.statuses([job_id])["active"] == 1, f"attempt {attempt}")
        stop(worker, EXIT_SECONDS)
    workers.start()
    job = person.await_status(job_id, "completed")
    assert (job["attempt"], job["maxAttempts"]) == (6, 6)
    assert platform.records.executions(job_id) == [
        *((number, "handed_back") for number in range(1, 6)),
        (6, "completed"),
    ]


def test_workers_that_are_replaced_under_load_lose_no_job(workers: Workers, platform: Platform, person: Person) -> None:
    worker = workers.start(concurrency=2, SHUTDOWN_GRACE_SECONDS="0")
    began = time.monotonic()
    job_ids = person.submit_many(60, {"steps": 1, "sleepMs": 250})
    for _ in range(3):
        following = workers.start(concurrency=2, SHUTDOWN_GRACE_SECONDS="0")
        stop(worker, LAST_SECONDS + EXIT_SECONDS)
        worker = following
    until(
        lambda: not platform.records.not_finished_once(job_ids),
        lambda: f"{len(job_ids)} jobs finished once: {platform.records.not_finished_once(job_ids)[:5]}",
        60,
    )
    statuses = {status for job_id in job_ids for _, status in platform.records.executions(job_id)}
    assert statuses <= {"completed", "handed_back"}
    print(f"{len(job_ids)} jobs over three replacements: {time.monotonic() - began:.1f} s")


def test_a_delivery_worker_finishes_what_it_sends_and_leaves_the_rest(platform: Platform, person: Person) -> None:
    def answer_slowly(_post: Post) -> int:
        time.sleep(0.2)
        return 204

    delivery = platform.stack.process("delivery")
    with Receiver(answer_slowly) as receiver:
        person.add_webhook(receiver.url)
        job_ids = person.submit_many(40)
        until(lambda: len(receiver.posts()) >= 5, "deliveries under way")
        stop(delivery, 10 + EXIT_SECONDS)
        delivery.start()
        until(
            lambda: not platform.records.not_finished_once(job_ids),
            lambda: f"one delivery of each job: {platform.records.not_finished_once(job_ids)[:5]}",
            60,
        )
