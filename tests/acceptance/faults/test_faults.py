"""Faults of every process and server: what was accepted is finished once, and everybody is told once."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from redis import Redis
from standardwebhooks import Webhook

from devstack import programs
from tests.acceptance.answers import assert_error
from tests.acceptance.platform import Person, Platform
from tests.acceptance.receiver import Post, Receiver
from tests.acceptance.waiting import until

pytestmark = pytest.mark.xdist_group("faults")

# Promised in the guarantees.
RESCUE_SECONDS = 45.0


def assert_all_finished_once(
    platform: Platform, person: Person, receiver: Receiver, job_ids: Sequence[str], seconds: float = 40.0
) -> None:
    """Each job is completed, by one attempt, announced by one notification and one webhook."""
    __tracebackhide__ = True
    records = platform.records
    until(
        lambda: records.statuses(job_ids)["completed"] == len(job_ids),
        lambda: f"{len(job_ids)} completed jobs; there are {dict(records.statuses(job_ids))}",
        seconds,
    )
    until(
        lambda: not records.not_finished_once(job_ids),
        lambda: f"one ending, one notification and one delivery of each job: {records.not_finished_once(job_ids)[:5]}",
        40,
    )
    came = Counter(post.job_id for post in receiver.posts(type_="job.completed"))
    assert came == Counter(job_ids), (
        f"webhooks that came not once: {(came - Counter(job_ids)) + (Counter(job_ids) - came)}"
    )
    inbox = person.get("/api/notifications?type=job_completed&limit=1")
    assert inbox["pagination"]["total"] == len(job_ids)


def test_a_killed_child_costs_its_job_an_attempt_and_the_other_jobs_nothing(
    platform: Platform, person: Person, receiver: Receiver
) -> None:
    person.add_webhook(receiver.url)
    with person.socket() as socket:
        job_ids = person.submit_many(2, {"steps": 15, "sleepMs": 200})
        for job_id in job_ids:
            socket.journal.first("job:progress", job_id)
        child = platform.stack.process("worker").descendants()[0]
        child.kill()
        assert_all_finished_once(platform, person, receiver, job_ids)
        histories = sorted(platform.records.executions(job_id) for job_id in job_ids)
        assert histories == [[(1, "completed")], [(1, "lost"), (2, "completed")]]
        socket.journal.all_completed(job_ids)
        socket.journal.assert_complete()
        endings = Counter(each.name for each in socket.journal.heard)
        assert (endings["job:created"], endings["job:started"], endings["job:completed"]) == (2, 3, 2)


def test_the_jobs_of_a_killed_worker_are_rescued(platform: Platform, person: Person, receiver: Receiver) -> None:
    person.add_webhook(receiver.url)
    job_ids = person.submit_many(3, {"steps": 10, "sleepMs": 200})
    until(lambda: platform.records.statuses(job_ids)["active"] == 2, "two running jobs")
    worker = platform.stack.process("worker")
    worker.kill()
    killed_at = time.monotonic()
    assert platform.records.statuses(job_ids) == {"active": 2, "queued": 1}
    worker.start()
    lost = [job_id for job_id in job_ids if platform.records.job(job_id)["attempt"] == 1]

    def rescued() -> bool:
        return all(platform.records.job(job_id)["attempt"] == 2 for job_id in lost[:2])

    until(rescued, lambda: f"a second attempt of {lost}", RESCUE_SECONDS)
    assert time.monotonic() - killed_at <= RESCUE_SECONDS
    assert_all_finished_once(platform, person, receiver, job_ids)
    histories = sorted(platform.records.executions(job_id) for job_id in job_ids)
    assert histories == [[(1, "completed")], *[[(1, "lost"), (2, "completed")]] * 2]


def test_a_redis_that_comes_back_empty_loses_no_queued_job(
    platform: Platform, person: Person, receiver: Receiver
) -> None:
    person.add_webhook(receiver.url)
    worker = platform.stack.process("worker")
    worker.stop()
    with person.socket() as socket:
        job_ids = person.submit_many(200)
        assert platform.stack.redis
        platform.stack.redis.restart()
        worker.start()
        assert_all_finished_once(platform, person, receiver, job_ids, seconds=60)
        # The numbers began anew, and the client was told to read again.
        assert socket.journal.first("resumed") == {"recovered": False}
        last_id = person.submit()
        socket.journal.first("job:completed", last_id)
    assert all(platform.records.executions(job_id) == [(1, "completed")] for job_id in job_ids)


def test_a_redis_that_hangs_while_a_job_ends_does_not_make_it_fail(
    platform: Platform, person: Person, receiver: Receiver
) -> None:
    person.add_webhook(receiver.url)
    job_id = person.submit(payload={"steps": 2, "sleepMs": 1000}, retryLimit=0)
    person.await_status(job_id, "active")
    redis = platform.stack.redis
    assert redis is not None
    redis.freeze()
    try:
        # Long enough for the body to end and for the first writes to Redis to be given up.
        until(lambda: platform.records.statuses([job_id])["completed"] == 1, "the end in SQL, without Redis", 30)
    finally:
        redis.thaw()
    assert_all_finished_once(platform, person, receiver, [job_id])


def test_a_postgres_that_is_restarted_under_load_loses_no_accepted_job(
    platform: Platform, person: Person, receiver: Receiver
) -> None:
    person.add_webhook(receiver.url)
    load = Load(person)
    postgres = platform.stack.postgres
    assert postgres
    with load:
        until(lambda: len(load.accepted) >= 30, "30 accepted jobs")
        postgres.stop()
        until(lambda: load.refused, "a refusal while the database is away")
        postgres.start()
        so_far = len(load.accepted)
        until(lambda: len(load.accepted) >= max(100, so_far + 20), "jobs accepted again")
    for answer in load.refused:
        assert_error(answer, 503, "service_unavailable")
        assert int(answer.headers["Retry-After"]) > 0
    assert_all_finished_once(platform, person, receiver, load.accepted, seconds=60)
    # What was refused after all may have been written just before the connection broke; nothing of it is left open.
    open_jobs = platform.records.rows(
        "SELECT id, status FROM jobs WHERE user_id = %s AND status <> 'completed'", person.id
    )
    assert open_jobs == []


def test_a_result_that_the_database_could_not_take_outlives_its_worker(platform: Platform, person: Person) -> None:
    job_id = person.submit(payload={"steps": 2, "sleepMs": 400})
    person.await_status(job_id, "active")
    postgres, worker = platform.stack.postgres, platform.stack.process("worker")
    assert postgres
    postgres.stop()
    with Redis.from_url(platform.stack.redis_url) as redis:
        key = f"carillon:results:celery-task-meta-{job_id}.1"
        until(lambda: b'"SUCCESS"' in (redis.get(key) or b""), "the result in Celery's backend", 20)
    worker.kill()
    postgres.start()
    worker.start()
    # That a lease has run out is waited for elsewhere; the time that workers have after a restart is waited for here.
    platform.records.rows("UPDATE jobs SET lease_expires_at = now() WHERE id = %s", job_id)
    until(lambda: platform.records.statuses([job_id])["completed"] == 1, "the end in SQL", RESCUE_SECONDS)
    assert platform.records.job(job_id)["result"]["steps"] == 2
    assert platform.records.executions(job_id) == [(1, "completed")], "its body ran once"


class Load:
    """Submits jobs from four threads while it is entered."""

    def __init__(self, person: Person) -> None:
        self.accepted: list[str] = []
        self.refused: list[requests.Response] = []
        self._ends = threading.Event()
        self._failures: list[Exception] = []
        # A session of `requests` is for one thread.
        self._threads = [threading.Thread(target=self._submit, args=(person.again(),)) for _ in range(4)]

    def _submit(self, person: Person) -> None:
        try:
            # A pace that a worker of two processes keeps up with.
            while not self._ends.wait(0.05):
                answer = person.send("POST", "/api/jobs", json={"type": "demo-steps", "payload": {"steps": 1}})
                if answer.status_code == 202:
                    self.accepted.append(answer.json()["id"])
                else:
                    self.refused.append(answer)
        except Exception as error:
            self._failures.append(error)

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()
        assert not self._failures, f"the web process did not answer: {self._failures}"


def test_a_killed_web_process_is_taken_up_where_it_left_off(
    platform: Platform, person: Person, receiver: Receiver
) -> None:
    person.add_webhook(receiver.url)
    web = platform.stack.process("web")
    with person.socket() as socket:
        job_ids = person.submit_many(50, {"steps": 2, "sleepMs": 75})
        socket.journal.until(
            lambda heard: sum(each.name == "job:completed" for each in heard) >= 10, "the completion of ten jobs"
        )
        web.kill()
        assert socket.disconnected.wait(10)
        web.start()
        assert socket.journal.first("resumed", seconds=30)["recovered"] is True
        socket.journal.all_completed(job_ids)
        socket.journal.assert_complete()
        completed = Counter(each.job_id for each in socket.journal.heard if each.name == "job:completed")
        assert completed == Counter(job_ids)
    assert_all_finished_once(platform, person, receiver, job_ids)


SEND_AGAIN = """
import sys
from service.queue import celery_app
for task_id in sys.argv[1:]:
    job_id = task_id.partition(".")[0]
    celery_app.send_task("demo-steps", args=(job_id,), task_id=task_id, queue="default")
"""


def test_messages_that_come_twice_or_late_do_nothing(platform: Platform, person: Person, receiver: Receiver) -> None:
    person.add_webhook(receiver.url)
    worker = platform.stack.process("worker")

    def send(*task_ids: str) -> None:
        platform.stack.run([sys.executable, "-c", SEND_AGAIN, *task_ids])

    def refusals(job_id: str) -> int:
        return sum("claim_refused" in line and job_id in line for line in worker.log.read_text().splitlines())

    busy = person.submit_many(2, {"steps": 15, "sleepMs": 200})
    twice = person.submit()
    # While the job waits, and while it runs, and after it ended; for attempts that were, and that never will be.
    send(f"{twice}.1", f"{twice}.1", f"{busy[0]}.1")
    assert_all_finished_once(platform, person, receiver, [*busy, twice])
    before = [platform.records.job(job_id) for job_id in (twice, *busy)]
    send(f"{twice}.1", f"{twice}.2", f"{busy[0]}.1")
    until(lambda: refusals(twice) >= 4, lambda: f"four refused claims of {twice}, there are {refusals(twice)}")
    until(lambda: refusals(busy[0]) >= 2, lambda: f"two refused claims of {busy[0]}, there are {refusals(busy[0])}")
    assert [platform.records.job(job_id) for job_id in (twice, *busy)] == before
    assert platform.records.executions(twice) == [(1, "completed")]
    assert_all_finished_once(platform, person, receiver, [*busy, twice])


FAILS_ONCE_MORE = {"retryLimit": 1, "retryDelay": 0.2, "retryStrategy": "fixed"}


def test_retries_go_on_once_a_killed_beat_is_back(platform: Platform, person: Person) -> None:
    beat = platform.stack.process("beat")
    beat.kill()
    job_id = person.submit(payload={"steps": 1, "failAt": 1}, **FAILS_ONCE_MORE)
    job = person.await_status(job_id, "retrying")
    due_at = datetime.fromisoformat(job["nextAttemptAt"])
    until(lambda: datetime.now(UTC) > due_at, "the time of the next attempt")
    assert person.job(job_id)["status"] == "retrying"
    beat.start()
    job = person.await_status(job_id, "failed")
    assert (job["attempt"], job["error"]["message"]) == (2, "Failed at step 1")
    assert platform.records.executions(job_id) == [(1, "failed"), (2, "failed")]


def test_two_beats_do_no_harm(platform: Platform, person: Person) -> None:
    second = platform.stack.add(
        replace(programs.beat(platform.stack.settings.var_folder / "second-beat", "second-beat"), essential=False)
    )
    try:
        job_ids = [person.submit(payload={"steps": 1, "failAt": 1}, **FAILS_ONCE_MORE) for _ in range(20)]
        until(
            lambda: platform.records.statuses(job_ids)["failed"] == len(job_ids),
            lambda: f"{len(job_ids)} failed jobs; there are {dict(platform.records.statuses(job_ids))}",
        )
        assert second.running
    finally:
        second.stop()
    assert all(platform.records.executions(job_id) == [(1, "failed"), (2, "failed")] for job_id in job_ids)
    assert person.get("/api/notifications?type=job_failed&limit=1")["pagination"]["total"] == len(job_ids)


def test_a_webhook_that_was_not_accepted_is_sent_again_under_the_same_id(platform: Platform, person: Person) -> None:
    refused: list[Post] = []

    def answer(post: Post) -> int:
        if refused:
            return 200
        refused.append(post)
        return 500

    with Receiver(answer) as receiver:
        webhook = person.add_webhook(receiver.url)
        job_id = person.submit()
        until(lambda: len(receiver.posts(job_id)) == 2, "a second attempt of the delivery")
        first, second = receiver.posts(job_id)
    assert first.webhook_id == second.webhook_id
    assert first.body == second.body
    assert int(second.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"])
    for post in (first, second):
        Webhook(webhook["secret"]).verify(post.body.decode(), post.headers)

    def delivered() -> Any:
        (delivery,) = person.get(f"/api/webhooks/{webhook['id']}/deliveries")["data"]
        return delivery if delivery["status"] == "delivered" else None

    delivery = until(delivered, "the delivery on record as delivered")
    assert [each["statusCode"] for each in delivery["attempts"]] == [500, 200]
    assert delivery["id"] == first.webhook_id


def test_webhooks_wait_for_a_killed_delivery_worker(platform: Platform, person: Person, receiver: Receiver) -> None:
    person.add_webhook(receiver.url)
    delivery = platform.stack.process("delivery")
    delivery.kill()
    # So few that they are sent at once: the dispatcher of crowds is in the process that was killed.
    job_ids = person.submit_many(3)
    for job_id in job_ids:
        person.await_status(job_id, "completed")
    assert receiver.posts() == []
    delivery.start()
    assert_all_finished_once(platform, person, receiver, job_ids)
