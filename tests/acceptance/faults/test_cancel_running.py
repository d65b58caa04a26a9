"""Cancels of running jobs: they end soon, by themselves or by force, and their neighbours hear nothing of it."""

from __future__ import annotations

import pytest

from tests.acceptance.platform import Person, Platform
from tests.acceptance.waiting import until
from tests.acceptance.workers import Workers

pytestmark = pytest.mark.xdist_group("faults")

# Until a worker knows of a cancel.
LOOK_SECONDS = 2.0
# For what follows, on a busy machine.
SLACK_SECONDS = 2.0
# Until Celery puts a process in the place of a killed one.
REPLACE_SECONDS = 6.0


def test_a_job_that_waits_is_woken_by_its_cancel(workers: Workers, platform: Platform, person: Person) -> None:
    workers.start()
    job_id = person.submit("demo-wait", {"seconds": 60})
    person.await_status(job_id, "active")
    person.ask("DELETE", f"/api/jobs/{job_id}", {"reason": "no longer wanted"})
    job = person.await_status(job_id, "cancelled", seconds=LOOK_SECONDS + SLACK_SECONDS)
    assert job["cancelReason"] == "no longer wanted"
    assert platform.records.executions(job_id) == [(1, "cancelled")]
    assert workers.log_of(job_id) == [(1, "info", "Cleaned up")]


def test_a_job_that_ignores_its_cancel_is_killed_and_the_others_go_on(
    workers: Workers, platform: Platform, person: Person
) -> None:
    worker = workers.start(concurrency=2, CANCEL_GRACE_SECONDS="1")
    bystander = person.submit(payload={"steps": 75, "sleepMs": 200})
    stubborn = person.submit("demo-wait", {"seconds": 60, "manner": "ignores"})
    for job_id in (bystander, stubborn):
        person.await_status(job_id, "active")
    processes = workers.children(worker)
    person.ask("DELETE", f"/api/jobs/{stubborn}", {"reason": "runs wild"})
    job = person.await_status(stubborn, "cancelled", seconds=LOOK_SECONDS + 1 + SLACK_SECONDS)
    assert (job["cancelReason"], job["error"], job["result"]) == ("runs wild", None, None)
    following = person.submit()
    person.await_status(following, "completed", seconds=REPLACE_SECONDS + SLACK_SECONDS)
    assert person.job(bystander)["status"] == "active"
    assert len(processes & workers.children(worker)) == 1
    person.await_status(bystander, "completed")
    assert platform.records.executions(bystander) == [(1, "completed")]
    assert platform.records.executions(stubborn) == [(1, "cancelled")]
    assert workers.log_of(stubborn) == [
        (1, "warning", "Killed: the job had not ended 1 s after it was cancelled."),
    ]
    assert person.get("/api/notifications?type=job_cancelled")["pagination"]["total"] == 1


def test_a_body_that_outlives_its_lease_is_killed_and_leaves_the_job_to_its_successor(
    workers: Workers, platform: Platform, person: Person
) -> None:
    worker = workers.start(concurrency=2, CANCEL_GRACE_SECONDS="1")
    # Longer than the time that leases are given to be renewed, where PostgreSQL was restarted by the test before.
    job_id = person.submit("demo-wait", {"seconds": 25, "manner": "ignores"})
    person.await_status(job_id, "active")
    processes = workers.children(worker)

    def given_away() -> bool:
        # As if the worker had been frozen for half a minute; it may renew the lease just before it is looked at.
        platform.records.rows(
            "UPDATE jobs SET lease_expires_at = now() - interval '1 s' WHERE id = %s AND attempt = 1", job_id
        )
        return platform.records.executions(job_id) == [(1, "lost")]

    until(given_away, "the rescue of the job", 45)
    until(
        lambda: len(processes & workers.children(worker)) == 1,
        "the end of the process that had lost the job",
        LOOK_SECONDS + 1 + SLACK_SECONDS,
    )
    person.await_status(job_id, "completed", seconds=40)
    assert platform.records.executions(job_id) == [(1, "lost"), (2, "completed")]


def test_a_kill_waits_for_the_database_that_is_to_know_of_it(
    workers: Workers, platform: Platform, person: Person
) -> None:
    worker = workers.start(CANCEL_GRACE_SECONDS="2")
    job_id = person.submit("demo-wait", {"seconds": 60, "manner": "ignores"})
    person.await_status(job_id, "active")
    (process,) = workers.children(worker)
    person.ask("DELETE", f"/api/jobs/{job_id}")
    until(lambda: "body_must_end" in worker.log_tail(), "the worker's knowledge of the cancel", 5)
    assert platform.stack.postgres
    platform.stack.postgres.stop()
    until(lambda: worker.log_tail().count("lease_not_renewed") >= 2, "looks past the time of the kill")
    assert process in workers.children(worker)
    platform.stack.postgres.start()
    until(lambda: process not in workers.children(worker), "the kill")
    assert platform.records.statuses([job_id])["cancelled"] == 1
    assert platform.records.executions(job_id) == [(1, "cancelled")]
