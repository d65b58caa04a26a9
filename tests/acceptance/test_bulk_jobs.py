"""Acts on many jobs, done by a worker: seen while it goes, and not doubled when the worker dies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.platform import Person, Platform
from tests.acceptance.waiting import until

RESCUE_SECONDS = 45.0


@pytest.fixture
def hurt(suffering: Platform) -> Iterator[Platform]:
    """A platform that may be hurt."""
    suffering.mend()
    yield suffering
    suffering.mend()


def submit_batches(person: Person, count: int, payload: dict[str, Any], **options: Any) -> list[str]:
    """The ids of so many jobs."""
    job = {"type": "demo-steps", "payload": payload, "options": options}
    ids: list[str] = []
    while len(ids) < count:
        answer = person.ask("POST", "/api/jobs/batch", {"jobs": [job] * min(count - len(ids), 1000)}, 202)
        ids += [each["id"] for each in answer["data"]]
    return ids


@pytest.mark.xdist_group("platform")
def test_a_crowd_of_queued_jobs_is_cancelled_by_a_job_that_tells_how_far_it_is(platform: Platform) -> None:
    person = platform.newcomer()
    job_ids = submit_batches(person, 1500, {"steps": 1, "sleepMs": 200}, tags=["crowd"])
    bystander = person.submit(delay=3600)
    with person.socket() as socket:
        order = {"action": "cancel", "filter": {"tag": "crowd"}, "reason": "too many"}
        bulk_job = person.ask("POST", "/api/jobs/actions", order, 202)["id"]
        job = person.await_status(bulk_job, "completed", "failed", seconds=60)
        assert job["status"] == "completed", job
        socket.journal.first("job:completed", bulk_job)
        progress = [each.data["progress"] for each in socket.journal.about(bulk_job, "job:progress")]
        told = [each["current"] for each in progress]
        assert len(told) > 1
        assert told == sorted(told)
        total = progress[-1]["total"]
        assert total == progress[0]["total"] > 1000
        # What ended by itself before its turn came was counted and not met.
        assert 0 <= total - progress[-1]["current"] <= 5
    statuses = platform.records.statuses
    until(
        lambda: statuses(job_ids)["cancelled"] + statuses(job_ids)["completed"] == len(job_ids),
        lambda: f"the end of every job; there are {dict(statuses(job_ids))}",
    )
    cancelled = statuses(job_ids)["cancelled"]
    # One that ran may have completed before it noticed, or before its turn came.
    late = platform.records.rows(
        "SELECT count(*) FROM jobs WHERE id = ANY(%s::uuid[]) AND status = 'completed'"
        " AND cancel_requested_at IS NOT NULL",
        job_ids,
    )
    assert job["result"]["count"] == cancelled + int(late[0]["count"])
    assert 1000 < job["result"]["count"] <= len(job_ids) - job["result"]["skipped"]
    assert person.get("/api/notifications?type=job_cancelled&limit=1")["pagination"]["total"] == cancelled
    assert person.job(bystander)["status"] == "scheduled"


@pytest.mark.xdist_group("faults")
def test_a_replay_at_a_rate_replays_each_once_though_its_worker_dies(hurt: Platform) -> None:
    person = hurt.newcomer()
    # They fail at once each time: a replay that began anew would find them again.
    job_ids = submit_batches(person, 200, {"steps": 1, "failAt": 1, "permanent": True})
    until(
        lambda: hurt.records.statuses(job_ids)["failed"] == 200,
        lambda: f"200 dead letters; there are {dict(hurt.records.statuses(job_ids))}",
        60,
    )
    body = {"filter": {"code": "demo_failure"}, "ratePerSecond": 100}
    bulk_job = person.ask("POST", "/api/dead-letters/replay", body, 202)["id"]

    def replayed() -> int:
        untouched = hurt.records.rows(
            "SELECT count(*) FROM jobs WHERE id = ANY(%s::uuid[]) AND attempt = 1 AND status = 'failed'", job_ids
        )
        return 200 - int(untouched[0]["count"])

    until(lambda: replayed() >= 60, lambda: f"60 replayed dead letters; there are {replayed()}")
    worker = hurt.stack.process("worker")
    worker.kill()
    assert 60 <= replayed() < 200
    worker.start()
    job = person.await_status(bulk_job, "completed", "failed", seconds=RESCUE_SECONDS + 30)
    assert (job["status"], job["result"]) == ("completed", {"count": 200, "skipped": 0})
    assert hurt.records.executions(bulk_job) == [(1, "lost"), (2, "completed")]

    def ends(job_id: str) -> list[str]:
        return [status for _, status in hurt.records.executions(job_id) if status != "lost"]

    until(
        lambda: all(ends(job_id) == ["failed", "failed"] for job_id in job_ids),
        lambda: f"one replay of each; wrong are {[ends(each) for each in job_ids if len(ends(each)) != 2][:5]}",
        RESCUE_SECONDS + 15,
    )
    assert hurt.records.statuses(job_ids) == {"failed": 200}
