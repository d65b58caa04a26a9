"""Server-Sent Events: what each stream tells, how it goes on after a cut, who may read it, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from typing import Any, cast

import pytest
import requests
from redis import Redis

from devstack import programs
from devstack.ports import free_port
from tests.acceptance.answers import assert_error
from tests.acceptance.journal import UNNUMBERED, Journal
from tests.acceptance.lines import Line
from tests.acceptance.platform import Person, Platform
from tests.acceptance.streams import EventStream
from tests.acceptance.waiting import until

pytestmark = pytest.mark.xdist_group("platform")

UNKNOWN = "01890000-0000-7000-8000-000000000000"
LIFE = ("job:created", "job:started", "job:progress", "job:completed", "job:status")


@pytest.fixture
def line(platform: Platform) -> Iterator[Line]:
    """A way to the web node that can be cut."""
    with Line(platform.url) as line:
        yield line


def numbered(journal: Journal) -> list[tuple[str, Any]]:
    """What was heard with a number, in order."""
    return [(each.name, each.data) for each in journal.heard if each.name not in UNNUMBERED]


def test_a_stream_tells_what_a_socket_hears(platform: Platform) -> None:
    person = platform.newcomer()
    with person.stream() as stream, person.socket() as socket:
        assert stream.headers["cache-control"] == "no-store"
        assert stream.headers["x-accel-buffering"] == "no"
        completed = person.submit(payload={"steps": 4, "sleepMs": 150})
        failed = person.submit(payload={"steps": 1, "failAt": 1}, retryLimit=0)
        for journal in (stream.journal, socket.journal):
            journal.first("job:completed", completed)
            journal.first("job:failed", failed)
            journal.until(
                lambda heard: [each.data["type"] for each in heard if each.name == "notification"][-1:] != [], "news"
            )
        last = person.submit(delay=600)
        for journal in (stream.journal, socket.journal):
            journal.until(lambda heard: [each for each in heard if each.job_id == last][1:], "the last events")
            journal.assert_complete()
        assert numbered(stream.journal) == numbered(socket.journal)


def test_a_stream_that_was_cut_goes_on_with_what_was_missed_once_and_in_order(platform: Platform, line: Line) -> None:
    person = platform.newcomer()
    with person.stream(url=line.url) as stream:
        job_id = person.submit(payload={"steps": 30, "sleepMs": 110})
        for step in (3, 12, 20):
            stream.journal.until(
                lambda heard, step=step: [  # type: ignore[misc]
                    each for each in heard if each.name == "job:progress" and each.data["progress"]["current"] >= step
                ],
                f"step {step}",
            )
            line.cut()
            stream.reconnect()
        stream.journal.first("job:completed", job_id)
        stream.journal.first("notification", job_id)
        stream.journal.assert_complete()
        names = [each.name for each in stream.journal.about(job_id, *LIFE)]
        assert names.count("job:progress") == 30
        assert (names[0], names[-2:]) == ("job:created", ["job:completed", "job:status"])
        resumed = [each.data for each in stream.journal.heard if each.name == "resumed"]
        assert [each["recovered"] for each in resumed] == [True] * 3
    assert line.cuts == 3


def test_what_was_missed_while_nobody_read_is_told_before_resumed(platform: Platform) -> None:
    person = platform.newcomer()
    with person.stream() as stream:
        # A stream that told nothing yet can be resumed too.
        before = until(lambda: stream.last_event_id, "a number") if person.submit(delay=600) else None
    job_id = person.submit(payload={"steps": 2})
    person.await_status(job_id, "completed")
    with person.stream(last_event_id=before) as stream:
        count = stream.journal.first("resumed")["count"]
        heard = stream.journal.heard
        place = next(index for index, each in enumerate(heard) if each.name == "resumed")
        assert count == place
        assert "job:completed" in {each.name for each in heard[:place]}
        assert int(heard[0].data["eventId"].partition("-")[2]) == int(str(before).partition("-")[2]) + 1


@pytest.mark.parametrize("unknown", ["1-1", "nonsense"])
def test_a_stream_that_cannot_know_what_was_missed_says_so_once(platform: Platform, unknown: str) -> None:
    person = platform.newcomer()
    person.await_status(person.submit(), "completed")
    with person.stream(last_event_id=unknown) as stream:
        assert stream.journal.first("resumed") == {"recovered": False}
        assert [each.name for each in stream.journal.heard] == ["resumed"], "nothing partial"
        known = stream.last_event_id
    # It has been told where it stands, so that the next break is no loss.
    assert known != unknown
    with person.stream(last_event_id=known) as stream:
        assert stream.journal.first("resumed")["recovered"] is True


def test_the_stream_of_a_job_ends_with_it(platform: Platform, line: Line) -> None:
    person = platform.newcomer()
    person.submit(payload={"steps": 10, "sleepMs": 100})
    with person.stream() as everything:
        job_id = person.submit(payload={"steps": 12, "sleepMs": 110})
        with person.stream(f"/api/jobs/{job_id}/stream", line.url) as stream:
            job = stream.journal.first("job")
            assert {"status", "progress", "result", "version"} <= job.keys()
            assert (job["id"], job["type"]) == (job_id, "demo-steps")
            assert stream.journal.heard[0].name == "job"
            stream.journal.first("job:progress", job_id)
            line.cut()
            stream.reconnect()
            stream.journal.until(
                lambda heard: [each for each in heard if each.name == "job"][1:], "the job as it is by now"
            )
            assert stream.ended.wait(20), "the stream outlives its job"
        everything.journal.until(
            lambda heard: [
                each
                for each in heard
                if (each.name, each.job_id, each.data.get("status")) == ("job:status", job_id, "completed")
            ],
            "the end of the job",
        )
        told = [(each.name, each.data) for each in everything.journal.about(job_id, *LIFE)]
        heard = numbered(stream.journal)
        # From where it was opened to the end, over both connections.
        assert heard == told[-len(heard) :]
        assert [name for name, _ in heard[-2:]] == ["job:completed", "job:status"]
        assert {each.data["jobId"] for each in stream.journal.heard if "jobId" in each.data} == {job_id}


@pytest.mark.parametrize("ending", ["completed", "failed", "cancelled"])
def test_the_stream_of_a_job_that_is_over_tells_how_it_ended(platform: Platform, ending: str) -> None:
    person = platform.newcomer()
    payload = {"steps": 1, "failAt": 1, "permanent": True} if ending == "failed" else {"steps": 1}
    job_id = person.submit(payload=payload, delay=600 if ending == "cancelled" else 0)
    if ending == "cancelled":
        person.ask("DELETE", f"/api/jobs/{job_id}")
    person.await_status(job_id, ending)
    with person.stream(f"/api/jobs/{job_id}/stream") as stream:
        assert stream.ended.wait(5), "nothing will follow"
        assert [(each.name, each.data["status"]) for each in stream.journal.heard] == [("job", ending)]


@pytest.mark.parametrize("ending", ["failed", "cancelled"])
def test_the_stream_of_a_job_ends_however_the_job_does(platform: Platform, ending: str) -> None:
    person = platform.newcomer()
    job_id = person.submit(payload={"steps": 20, "sleepMs": 100, "failAt": 3, "permanent": True})
    if ending == "cancelled":
        job_id = person.submit(delay=600)
    with person.stream(f"/api/jobs/{job_id}/stream") as stream:
        stream.journal.first("job")
        if ending == "cancelled":
            person.ask("DELETE", f"/api/jobs/{job_id}", {"reason": "enough"})
        assert stream.ended.wait(10)
        assert [each.name for each in stream.journal.heard][-2:] == [f"job:{ending}", "job:status"]


def test_only_those_who_may_see_a_job_may_follow_it(platform: Platform) -> None:
    owner, colleague, operator, stranger = (
        platform.newcomer(),
        platform.newcomer(),
        platform.operator(),
        platform.stranger(),
    )
    job_id = owner.submit(payload={"steps": 5, "sleepMs": 100})
    path = f"/api/jobs/{job_id}/stream"
    assert_error(colleague.send("GET", path), 403, "not_allowed")
    assert_error(stranger.send("GET", path), 404, "job_not_found")
    assert_error(owner.send("GET", f"/api/jobs/{UNKNOWN}/stream"), 404, "job_not_found")
    for address in (path, "/api/events", "/api/notifications/stream"):
        assert_error(requests.get(platform.url + address, timeout=10), 401, "not_authenticated")
    with operator.stream(path) as stream:
        assert stream.ended.wait(20)
        assert stream.journal.first("job:completed", job_id)


def test_a_stream_tells_nothing_of_other_users(platform: Platform) -> None:
    alice, bob = platform.newcomer(), platform.newcomer()
    with alice.stream() as stream, alice.stream("/api/notifications/stream") as inbox:
        foreign = bob.submit()
        bob.await_status(foreign, "completed")
        own = alice.submit()
        stream.journal.first("job:completed", own)
        inbox.journal.first("notification", own)
        assert {each.job_id for each in stream.journal.heard if each.name != "resumed"} == {own}
        assert foreign not in str(inbox.journal.heard)


def test_the_stream_of_the_inbox_begins_with_the_count_and_tells_of_other_devices(platform: Platform) -> None:
    person = platform.newcomer()
    with person.stream("/api/notifications/stream") as stream:
        assert stream.journal.first("unread-count") == {"count": 0, "version": 0}
        job_id = person.submit()
        notification = stream.journal.first("notification", job_id)
        person.ask("PATCH", f"/api/notifications/{notification['id']}/read")
        assert stream.journal.first("notification:read")["id"] == notification["id"]
        person.ask("DELETE", f"/api/notifications/{notification['id']}")
        assert stream.journal.first("notification:deleted")["id"] == notification["id"]
        truth = person.get("/api/notifications/unread-count")
        stream.journal.until(
            lambda heard: any(
                {"count": each.data["count"], "version": each.data["version"]} == truth
                for each in heard
                if each.name == "unread-count"
            ),
            f"the count {truth}",
        )
        versions = [each.data["version"] for each in stream.journal.heard if each.name == "unread-count"]
        assert versions == sorted(versions)
        assert not [each for each in stream.journal.heard if each.name.startswith("job:")]


def ticket(person: Person) -> str:
    return str(person.ask("POST", "/api/auth/stream-ticket", None, 201)["ticket"])


def test_a_ticket_opens_one_stream(platform: Platform) -> None:
    person = platform.newcomer()
    first = ticket(person)
    with EventStream(platform.url, f"/api/events?ticket={first}").connect() as stream:
        job_id = person.submit()
        stream.journal.first("job:completed", job_id)
        again = requests.get(f"{platform.url}/api/events?ticket={first}", timeout=10)
        assert_error(again, 401, "invalid_token")
    for path in (f"/api/jobs/{job_id}/stream", "/api/notifications/stream"):
        with EventStream(platform.url, f"{path}?ticket={ticket(person)}").connect() as stream:
            stream.journal.until(bool, "the beginning")


def test_a_ticket_is_for_streams_only_and_must_be_one(platform: Platform) -> None:
    person = platform.newcomer()
    for path in ("/api/jobs", "/api/auth/me", "/api/notifications"):
        answer = requests.get(f"{platform.url}{path}?ticket={ticket(person)}", timeout=10)
        assert_error(answer, 401, "not_authenticated")
    for wrong in ("unknown", "", person.token):
        answer = requests.get(f"{platform.url}/api/events", params={"ticket": wrong}, timeout=10)
        assert_error(answer, 401, "invalid_token")
    foreign = platform.newcomer().submit()
    answer = requests.get(f"{platform.url}/api/jobs/{foreign}/stream?ticket={ticket(person)}", timeout=10)
    assert_error(answer, 403, "not_allowed")


def test_a_ticket_is_worth_nothing_after_thirty_seconds(platform: Platform) -> None:
    given = ticket(platform.newcomer())
    with Redis.from_url(platform.stack.redis_url) as redis:
        key = f"carillon:ticket:{sha256(given.encode()).hexdigest()}"
        assert 20 < cast(int, redis.ttl(key)) <= 30
        assert given.encode() not in b"".join(redis.scan_iter("*ticket*")), "who reads Redis can open no stream"
        # Instead of waiting for half a minute.
        redis.pexpire(key, 1)
        until(lambda: not redis.exists(key), "the end of its time")
    assert_error(requests.get(f"{platform.url}/api/events?ticket={given}", timeout=10), 401, "invalid_token")


@pytest.mark.parametrize("mode", ["eventlet", "threading"])
def test_open_streams_and_sockets_do_not_keep_a_web_process_from_its_end(platform: Platform, mode: str) -> None:
    port = free_port()
    program = programs.web(port, f"web-that-stops-{mode}")
    node = platform.stack.add(
        replace(program, environment={"PORT": str(port), "SOCKETIO_ASYNC_MODE": mode}, essential=False)
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(url), lambda: f"the node; its log ends:\n{node.log_tail()}", 30)
        person = replace(platform.newcomer(), url=url)
        with ExitStack() as clients:
            streams = [clients.enter_context(person.stream()) for _ in range(5)]
            socket = clients.enter_context(person.socket())
            job_id = person.submit()
            for client in (*streams, socket):
                client.journal.first("job:completed", job_id)
            node.send(node.program.stop_signal)
            until(lambda: not node.running, lambda: f"the end of the node; its log ends:\n{node.log_tail()}", 5)
            assert node.returncode == 0
            assert all(stream.ended.wait(5) for stream in streams)
    finally:
        node.kill()


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/api/health/live", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False
