"""What is sent when, with real workers: pauses, priorities, limits, tenants, workflows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.acceptance.platform import Person, Platform
from tests.acceptance.waiting import until

pytestmark = pytest.mark.xdist_group("platform")

QUEUE = "/api/admin/queues/default"


@pytest.fixture
def operator(platform: Platform) -> Iterator[Person]:
    """The administrator of the installation; what he paused and limited goes on afterwards."""
    person = platform.administrator()
    yield person
    person.ask("POST", f"{QUEUE}/resume")
    for limit in person.get("/api/admin/limits")["data"]:
        if limit["source"] == "operator":
            person.ask("DELETE", f"/api/admin/limits/{limit['subject']}", status=204)


def started(platform: Platform, job_ids: list[str]) -> list[str]:
    """The jobs in the order in which they were started."""
    rows = platform.records.rows("SELECT id, started_at FROM jobs WHERE id = ANY(%s::uuid[])", job_ids)
    return [str(row["id"]) for row in sorted(rows, key=lambda row: row["started_at"])]


def all_completed(platform: Platform, job_ids: list[str], seconds: float = 30.0) -> None:
    records = platform.records
    until(
        lambda: records.statuses(job_ids)["completed"] == len(job_ids),
        lambda: f"{len(job_ids)} completed jobs; there are {dict(records.statuses(job_ids))}",
        seconds,
    )


def times(platform: Platform, job_ids: list[str]) -> list[tuple[datetime, datetime]]:
    """When each attempt of the jobs ran."""
    rows = platform.records.rows(
        "SELECT started_at, finished_at FROM job_executions WHERE job_id = ANY(%s::uuid[]) ORDER BY started_at", job_ids
    )
    return [(row["started_at"], row["finished_at"]) for row in rows]


def test_a_paused_queue_runs_nothing_and_then_everything_by_priority(platform: Platform, operator: Person) -> None:
    person = platform.newcomer()
    assert operator.ask("POST", f"{QUEUE}/pause")["state"] == "paused"
    by_priority = {priority: person.submit_many(3, priority=priority) for priority in (10, 95, 50)}
    job_ids = [job_id for ids in by_priority.values() for job_id in ids]
    assert operator.get(QUEUE)["depth"] >= len(job_ids)
    assert platform.records.statuses(job_ids) == {"queued": len(job_ids)}
    assert person.job(by_priority[10][-1])["queuePosition"] >= len(job_ids)
    assert operator.ask("POST", f"{QUEUE}/resume")["state"] == "running"
    all_completed(platform, job_ids)
    order = started(platform, job_ids)
    # Two processes start two jobs at almost the same time.
    for place, job_id in enumerate(order):
        wanted = [95, 95, 95, 50, 50, 50, 10, 10, 10][max(0, place - 1) : place + 2]
        assert any(job_id in by_priority[priority] for priority in wanted), (place, job_id)


def test_a_drained_queue_finishes_what_it_has(platform: Platform, operator: Person) -> None:
    person = platform.newcomer()
    old = person.submit_many(10, {"steps": 2, "sleepMs": 50})
    operator.ask("POST", f"{QUEUE}/drain")
    new = person.submit_many(3)
    all_completed(platform, old)
    until(lambda: operator.get(QUEUE)["state"] == "drained", "the queue to be drained")
    assert platform.records.statuses(new) == {"queued": 3}
    operator.ask("POST", f"{QUEUE}/resume")
    all_completed(platform, new)


def test_jobs_of_one_key_never_run_at_once(platform: Platform) -> None:
    person = platform.newcomer()
    job_ids = person.submit_many(8, {"steps": 1, "sleepMs": 50}, concurrencyKey="customer-1")
    all_completed(platform, job_ids)
    for before, after in pairwise(times(platform, job_ids)):
        assert before[1] <= after[0], "one began before the other had ended"


def test_a_limit_set_while_jobs_wait_is_kept(platform: Platform, operator: Person) -> None:
    person = platform.newcomer()
    operator.ask("PUT", f"/api/admin/limits/user:{person.id}", {"concurrency": 1})
    job_ids = person.submit_many(5, {"steps": 1, "sleepMs": 100})
    all_completed(platform, job_ids)
    for before, after in pairwise(times(platform, job_ids)):
        assert before[1] <= after[0]


def test_no_more_jobs_start_than_a_rate_allows(platform: Platform, operator: Person) -> None:
    person = platform.newcomer()
    operator.ask("PUT", f"/api/admin/limits/user:{person.id}", {"rate": {"limit": 4, "period": 1}})
    job_ids = person.submit_many(12)
    all_completed(platform, job_ids)
    begun = [start for start, _ in times(platform, job_ids)]
    for first, last in zip(begun, begun[8:], strict=False):
        # A full bucket of four, and four more in a second.
        assert (last - first).total_seconds() >= 0.9, "nine starts in less than a second"


def test_a_tenants_many_do_not_hold_up_anothers_few(platform: Platform, operator: Person) -> None:
    crowd, few = platform.newcomer(), platform.stranger()
    # All of them wait before the first one starts.
    operator.ask("POST", f"{QUEUE}/pause")
    jobs = [{"type": "demo-steps", "payload": {"steps": 1}}] * 300
    many = [job["id"] for job in crowd.ask("POST", "/api/jobs/batch", {"jobs": jobs}, 202)["data"]]
    mine = few.submit_many(10)
    operator.ask("POST", f"{QUEUE}/resume")
    all_completed(platform, [*many, *mine], 60)
    order = started(platform, [*many, *mine])
    before = order.index([job_id for job_id in order if job_id in mine][-1]) - len(mine) + 1
    assert before < 60, f"{before} of the other tenant's jobs were started before the last of these ten"


def test_a_workflow_hands_results_on(platform: Platform) -> None:
    person = platform.newcomer()
    step = {"type": "demo-steps", "payload": {"steps": 2, "sleepMs": 20}}
    steps: list[dict[str, Any]] = [
        {"ref": "fetch", **step},
        {"ref": "left", **step, "dependsOn": ["fetch"]},
        {"ref": "right", **step, "dependsOn": ["fetch"]},
        {"ref": "join", **step, "dependsOn": ["left", "right"]},
    ]
    with person.socket() as socket:
        flow = person.ask("POST", "/api/workflows", {"name": "Diamond", "steps": steps}, 202)
        ids = {ref: job["id"] for ref, job in flow["jobs"].items()}
        socket.journal.first("job:completed", ids["join"])
    path = f"/api/workflows/{flow['id']}"
    until(lambda: person.get(path)["status"] == "completed", lambda: f"the end of {person.get(path)}")
    done = person.get(path)
    assert done["progress"] == {"current": 4, "total": 4, "percentage": 100}
    jobs = done["jobs"]
    for child, parent in (("left", "fetch"), ("right", "fetch"), ("join", "left"), ("join", "right")):
        assert jobs[parent]["completedAt"] <= jobs[child]["startedAt"]


def test_only_who_runs_the_installation_steers_its_queues(platform: Platform) -> None:
    for person in (platform.newcomer(), platform.stranger()):
        for method, path, body in (
            ("GET", "/api/admin/queues", None),
            ("POST", f"{QUEUE}/pause", None),
            ("PUT", "/api/admin/limits/type:demo-steps", {"concurrency": 0}),
        ):
            assert person.send(method, path, json=body).status_code == 403
