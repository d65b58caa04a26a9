"""The client code of S0 and S4, run against a whole platform with only the host changed."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from tests.acceptance.answers import assert_error
from tests.acceptance.journal import Heard, Journal
from tests.acceptance.platform import Person, Platform
from tests.acceptance.receiver import Post, Receiver
from tests.acceptance.waiting import until

pytestmark = pytest.mark.xdist_group("platform")

UNKNOWN = "01890000-0000-7000-8000-000000000000"
FAILS = {"steps": 3, "failAt": 2, "permanent": True}


def polled(
    folder: Path, person: Person, job_id: str, then: Callable[[], object] = lambda: None
) -> tuple[list[Any], str]:
    """Every status that S0's polling client showed until it stopped by itself, and its complaints.

    `then` is called when it has shown the first one.
    """
    with subprocess.Popen(
        ["node", "polls_as_s0.js", person.url, job_id],
        cwd=folder,
        env={**os.environ, "TOKEN": person.token},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout
        assert client.stderr
        statuses: list[Any] = []
        try:
            for line in client.stdout:
                statuses.append(json.loads(line))
                if len(statuses) == 1:
                    then()
            return statuses, client.stderr.read()
        finally:
            client.kill()


@contextmanager
def listening(folder: Path, script: str, person: Person, *arguments: str) -> Iterator[Journal]:
    """The journal of what an older socket client does."""
    journal = Journal(script)
    with subprocess.Popen(
        ["node", script, person.url, *arguments],
        cwd=folder,
        env={**os.environ, "TOKEN": person.token},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        output = process.stdout

        def read() -> None:
            for line in output:
                journal.note(*json.loads(line))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield journal
        finally:
            # It ends when its input does.
            process.stdin.close()
            try:
                process.wait(10)
            finally:
                process.kill()
                reader.join(10)


def gated(person: Person) -> tuple[str, str]:
    """A job that begins when another one is cancelled, and tells five steps then; the other one's id first."""
    gate = person.submit(delay=3600)
    waits_for = [{"jobId": gate, "onFailure": "continue"}]
    return gate, person.submit(payload={"steps": 5, "sleepMs": 150}, dependsOn=waits_for)


class FlatReceiver(Receiver):
    """A receiver of S0's bodies, which say of themselves no more than a job's id."""

    def __init__(self) -> None:
        self._taken: list[Post] = []
        super().__init__(self._take)

    def _take(self, post: Post) -> int:
        self._taken.append(post)
        return 200

    def about(self, job_id: str) -> Post | None:
        """What came first about a job."""
        return next((post for post in list(self._taken) if post.document["id"] == job_id), None)


def hears(journal: Journal, line: str) -> None:
    """Wait until the client has logged a line that begins so."""
    journal.until(lambda heard: line in [text[: len(line)] for text in said(heard)], line)


def said(heard: list[Heard]) -> list[str]:
    """The first words of each line that the client logged."""
    return [each.data["said"][0] for each in heard if each.name == "said"]


def test_the_polling_client_of_s0_sees_a_job_to_its_end(platform: Platform, node_folder: Path) -> None:
    person = platform.newcomer()
    gate, job_id = gated(person)
    statuses, complaints = polled(node_folder, person, job_id, lambda: person.ask("DELETE", f"/api/jobs/{gate}"))
    assert complaints == ""
    states = [status["state"] for status in statuses]
    assert states == sorted(states, key=["waiting", "active", "completed"].index)
    assert set(states) == {"waiting", "active", "completed"}
    assert {20, 40, 60, 80} & {status["progress"] for status in statuses}
    last = statuses[-1]
    assert (last["id"], last["state"], last["progress"]) == (job_id, "completed", 100)
    assert (last["result"], last["failedReason"]) == ({"steps": 5, "attempt": 1}, None)
    times = [last["timestamp"][name] for name in ("created", "started", "finished")]
    assert times == sorted(times)


def test_the_polling_client_of_s0_stops_however_a_job_ends(platform: Platform, node_folder: Path) -> None:
    person = platform.newcomer()
    failing = person.submit(payload=FAILS)
    statuses, _ = polled(node_folder, person, failing)
    assert (statuses[-1]["state"], statuses[-1]["failedReason"]) == ("failed", "Failed for good at step 2")
    cancelled = person.submit(delay=3600)
    person.ask("POST", f"/analyze/jobs/{cancelled}/cancel", {"reason": "no longer needed"})
    statuses, _ = polled(node_folder, person, cancelled)
    assert [(each["state"], each["failedReason"]) for each in statuses] == [("failed", "no longer needed")]
    statuses, complaints = polled(node_folder, person, UNKNOWN)
    assert statuses == []
    assert "Failed to fetch job status: NOT FOUND" in complaints


def test_the_list_of_s0(platform: Platform) -> None:
    person = platform.newcomer()
    first, second = person.submit_many(2)
    waiting = person.submit(delay=3600)
    for job_id in (first, second):
        person.await_status(job_id, "completed")
    page = person.get("/jobs?status=completed&page=2&limit=1")
    assert [(job["id"], job["state"], job["progress"]) for job in page["jobs"]] == [(first, "completed", 100)]
    assert page["pagination"] == {"total": 2, "page": 2, "limit": 1, "pages": 2}
    assert [job["id"] for job in person.get("/jobs?status=delayed")["jobs"]] == [waiting]


def test_endpoints_of_s0_are_told_in_its_words(platform: Platform) -> None:
    person = platform.newcomer()
    with ExitStack() as servers:
        receivers = {word: servers.enter_context(FlatReceiver()) for word in ("progress", "completed", "failed")}
        made = {
            word: person.ask("POST", "/webhooks", {"url": receiver.url, "eventType": word}, 201)["webhook"]
            for word, receiver in receivers.items()
        }
        completed = person.submit(payload={"steps": 3, "sleepMs": 100})
        failed = person.submit(payload=FAILS)

        def first(word: str, job_id: str) -> Post:
            post = until(lambda: receivers[word].about(job_id), f"a webhook {word} of job {job_id}")
            assert post
            return post

        told = first("completed", completed)
        job = person.job(completed)
        about = {"id": completed, "jobname": job["name"], "userId": person.id}
        assert told.document == {**about, "result": {"steps": 3, "attempt": 1}}
        Webhook(made["completed"]["secret"]).verify(told.body.decode(), told.headers)
        progress = first("progress", completed).document
        assert progress == {**about, "progress": progress["progress"]}
        assert isinstance(progress["progress"], (int, float)), "receivers print it with a percent sign"
        failure = first("failed", failed).document
        assert (failure["id"], failure["userId"], failure["error"]) == (failed, person.id, "Failed for good at step 2")
        assert receivers["completed"].about(failed) is None

    listed = person.get("/webhooks")["webhooks"]
    assert {each["id"] for each in listed} == {each["id"] for each in made.values()}
    path = f"/webhooks/{made['progress']['id']}"
    assert person.ask("PUT", path, {**made["progress"], "active": False})["webhook"]["active"] is False
    assert person.ask("DELETE", path) == {"message": "Webhook deleted successfully"}
    assert_error(person.send("DELETE", path), 404, "webhook_not_found")


def test_the_single_url_of_s0_is_told_of_completed_jobs(platform: Platform) -> None:
    person = platform.newcomer()
    with FlatReceiver() as receiver:
        person.ask("PATCH", "/api/auth/me", {"webhookUrl": receiver.url})
        job_id = person.submit()
        post = until(lambda: receiver.about(job_id), "a webhook")
    assert post
    job = person.job(job_id)
    assert post.document == {"id": job_id, "jobname": job["name"], "userId": person.id, "result": job["result"]}


def test_the_paths_of_s4(platform: Platform) -> None:
    person, colleague, operator = platform.newcomer(), platform.newcomer(), platform.operator()
    completed = person.submit(payload={"steps": 2})
    person.await_status(completed, "completed")
    job = person.get(f"/analyze/jobs/{completed}")
    known = ("jobId", "jobType", "userId", "status", "progress", "stage")
    told = [job[name] for name in known]
    assert told == [completed, "demo-steps", person.id, "completed", 100, "Job completed successfully"]
    assert job["result"] == {"steps": 2, "attempt": 1}

    running = person.submit(payload={"steps": 600, "sleepMs": 100})
    person.await_status(running, "active")
    path = f"/analyze/jobs/user/{person.id}"
    until(lambda: person.get(path)["jobs"][0]["progress"] > 0, "progress in the list")
    assert [each["jobId"] for each in person.get(path)["jobs"]] == [running, completed]
    assert operator.get(path)["pagination"]["total"] == 2
    assert_error(colleague.send("GET", path), 403, "not_allowed")
    assert_error(platform.stranger().send("GET", path), 404, "user_not_found")
    assert_error(colleague.send("POST", f"/analyze/jobs/{running}/cancel"), 403, "not_allowed")

    person.ask("POST", f"/analyze/jobs/{running}/cancel", {"reason": "wrong video"})
    person.await_status(running, "cancelled")
    job = person.get(f"/analyze/jobs/{running}")
    assert (job["status"], job["reason"]) == ("cancelled", "wrong video")
    assert_error(person.send("POST", f"/analyze/jobs/{running}/cancel"), 409, "job_not_cancellable")


def test_the_socket_client_of_s0_hears_of_its_job(platform: Platform, node_folder: Path) -> None:
    person = platform.newcomer()
    gate, job_id = gated(person)
    with listening(node_folder, "listens_as_s0.js", person, job_id) as journal:
        hears(journal, "Connected to server")
        person.ask("DELETE", f"/api/jobs/{gate}")
        result = {"steps": 5, "attempt": 1}
        assert journal.first("showCompletionMessage") == {"result": result}
        bars = [each.data["progress"]["percentage"] for each in journal.heard if each.name == "updateProgressBar"]
        assert bars == [20, 40, 60, 80, 100]
        hears(journal, f"Job {job_id} completed with result:")
        # The numbers of §2.1 are those of the job's room.
        completed = journal.first(f"job:{job_id}:completed")
        assert (completed["jobId"], completed["result"]) == (job_id, result)
        numbers = [each.data["progress"] for each in journal.heard if each.name == f"job:{job_id}:progress"]
        assert numbers == bars

        failing = person.submit(payload=FAILS)
        assert journal.first("showErrorMessage") == {"error": "Failed for good at step 2"}
        hears(journal, f"Job {failing} failed:")


def test_the_socket_client_of_s4_hears_queue_updates(platform: Platform, node_folder: Path) -> None:
    person = platform.newcomer()
    with listening(node_folder, "listens_as_s4.js", person) as journal:
        journal.first("connect")

        def updates(job_id: str, last: str) -> list[Any]:
            def ended(heard: list[Heard]) -> list[Any]:
                about = [each.data for each in heard if each.name == "queue-update" and each.data["jobId"] == job_id]
                return about if last in [each["eventType"] for each in about] else []

            return journal.until(ended, f"{last} of job {job_id}")

        completed = person.submit(payload={"steps": 4, "sleepMs": 150})
        told = updates(completed, "job-completed")
        assert [each["eventType"] for each in told] == [
            "job-queued",
            "job-started",
            *["job-progress"] * 4,
            "job-completed",
        ]
        assert [each["progress"] for each in told] == [0, 0, 25, 50, 75, 100, 100]
        assert [each["stage"] for each in told[2:6]] == [f"Step {step} of 4" for step in range(1, 5)]
        assert {(each["jobType"], each["userId"]) for each in told} == {("demo-steps", person.id)}
        assert all(each["timestamp"] for each in told)
        assert told[0]["queuePosition"] >= 1
        assert told[-1]["result"] == {"steps": 4, "attempt": 1}
        hears(journal, "Analysis results:")
        assert "Step 2 of 4: 50%" in said(journal.heard)

        failing = person.submit(payload=FAILS)
        error = updates(failing, "job-failed")[-1]["error"]
        assert error == {"message": "Failed for good at step 2", "code": "demo_failure"}

        cancelled = person.submit(delay=3600)
        person.ask("POST", f"/analyze/jobs/{cancelled}/cancel", {"reason": "wrong video"})
        assert updates(cancelled, "job-cancelled")[-1]["reason"] == "wrong video"
