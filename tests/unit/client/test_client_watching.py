"""Watching jobs and events: over streams that end, break and fall silent, and by asking where there are none."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from service.client import (
    Carillon,
    Event,
    Gap,
    JobCancelled,
    JobFailed,
    NoStream,
    NotFound,
    WaitedTooLong,
)
from tests.unit.client.contract import Asked, ContractServer, Reply, Stream, a_job, progress, refusal, sse

JOB = "/api/jobs/job-1"
STREAM = f"{JOB}/stream"
EVENTS = "/api/events"
DONE = a_job("completed", progress=progress(100), result={"steps": 3})


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """Keeps a stream open for the length of a test."""
    event = threading.Event()
    yield event
    event.set()


def seen(client: Carillon) -> list[tuple[str, float]]:
    return [(update.status, update.percentage) for update in client.watch("job-1")]


def told(percentage: float) -> str:
    return sse("job:progress", {"jobId": "job-1", "progress": progress(percentage), "percentage": percentage})


@pytest.mark.parametrize("chunked", [True, False])
def test_a_job_is_watched_over_its_stream_to_its_result(
    server: ContractServer, client: Carillon, chunked: bool
) -> None:
    pieces = [
        sse("job", a_job()),
        sse("job:started", a_job("active", eventId="1-1"), "1-1"),
        told(50)[:20],
        told(50)[20:] + ": quiet\n\n",
        told(50),
        sse("job:completed", {"jobId": "job-1", "result": {"steps": 3}}),
        sse("job:status", {"jobId": "job-1", "status": "completed", "progress": progress(100)}),
    ]
    server.script("GET", STREAM, Stream(pieces, chunked=chunked))
    server.script("GET", JOB, Reply(a_job()), Reply(DONE))
    updates = list(client.watch("job-1"))
    assert [(each.status, each.percentage) for each in updates] == [
        ("queued", 0),
        ("active", 0),
        ("active", 50),
        ("completed", 100),
    ]
    assert updates[-1].job["result"] == {"steps": 3}
    assert len(server.requests("GET", JOB)) == 2


def test_updates_come_when_they_are_sent_not_when_the_stream_ends(
    server: ContractServer, client: Carillon, held: threading.Event
) -> None:
    server.script("GET", STREAM, Stream([sse("job", a_job("active")), told(10)], held=held))
    server.script("GET", JOB, Reply(a_job("active")))
    assert [each.percentage for each in islice(client.watch("job-1"), 2)] == [0, 10]
    assert not held.is_set()


def test_a_stream_that_is_cut_is_taken_up_again(server: ContractServer, client: Carillon) -> None:
    server.script(
        "GET",
        STREAM,
        Stream([sse("job", a_job("active")), told(10), told(99)[:-1]], is_cut=True),
        Stream([sse("job", a_job("active", progress=progress(40))), told(60), sse("job:completed", {})]),
    )
    server.script("GET", JOB, Reply(a_job()), Reply(a_job("active", progress=progress(20))), Reply(DONE))
    assert seen(client) == [
        ("queued", 0),
        ("active", 0),
        ("active", 10),
        ("active", 20),
        ("active", 40),
        ("active", 60),
        ("completed", 100),
    ]


def test_an_end_between_two_streams_is_not_missed(server: ContractServer, client: Carillon) -> None:
    server.script("GET", STREAM, Stream([sse("job", a_job("active"))], is_cut=True))
    server.script("GET", JOB, Reply(a_job()), Reply(DONE))
    assert seen(client) == [("queued", 0), ("active", 0), ("completed", 100)]


def test_an_end_that_the_server_lost_track_of_is_read(
    server: ContractServer, client: Carillon, held: threading.Event
) -> None:
    lost = sse("resumed", {"recovered": False})
    server.script("GET", STREAM, Stream([sse("job", a_job("active")), lost], held=held))
    server.script("GET", JOB, Reply(a_job()), Reply(DONE))
    assert seen(client) == [("queued", 0), ("active", 0), ("completed", 100)]


@pytest.mark.parametrize("stream", [Reply(status=404), Reply({}), refusal(406, "not_acceptable")])
def test_without_a_stream_the_job_is_asked_for_again_and_again(
    server: ContractServer, client: Carillon, stream: Reply
) -> None:
    server.script("GET", STREAM, stream)
    server.script("GET", JOB, Reply(a_job()), Reply(a_job("active")), Reply(a_job("active")), Reply(DONE))
    assert seen(client) == [("queued", 0), ("active", 0), ("completed", 100)]


def test_a_stream_that_never_says_a_word_is_left_for_asking(server: ContractServer, client: Carillon) -> None:
    server.script("GET", STREAM, Stream([": quiet\n\n"]))
    server.script("GET", JOB, *[Reply(a_job("active"))] * 3, Reply(DONE))
    assert seen(client) == [("active", 0), ("completed", 100)]
    assert len(server.requests("GET", STREAM)) == 2


def test_a_stream_that_does_not_begin_is_left_for_asking(
    server: ContractServer, client: Carillon, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept_back(asked: Asked) -> Reply:
        held.wait(20)
        return Reply({})

    monkeypatch.setattr("service.client.transport.SILENCE_SECONDS", 0.3)
    server.script("GET", STREAM, kept_back)
    server.script("GET", JOB, Reply(a_job()), Reply(a_job("active")), Reply(DONE))
    assert seen(client) == [("queued", 0), ("active", 0), ("completed", 100)]
    assert len(server.requests("GET", STREAM)) == 1


def test_a_stream_that_falls_silent_is_opened_anew(
    server: ContractServer, client: Carillon, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.client.transport.SILENCE_SECONDS", 0.3)
    silent = Stream([sse("job", a_job("active"))], held=held)
    server.script("GET", STREAM, silent, Stream([sse("job", a_job("active")), told(60), sse("job:completed", {})]))
    server.script("GET", JOB, Reply(a_job()), Reply(a_job("active")), Reply(DONE))
    assert seen(client) == [("queued", 0), ("active", 0), ("active", 60), ("completed", 100)]


def test_a_job_that_there_is_not_cannot_be_watched(server: ContractServer, client: Carillon) -> None:
    for path in (STREAM, JOB):
        server.script("GET", path, refusal(404, "job_not_found"))
    with pytest.raises(NotFound) as refused:
        list(client.watch("job-1"))
    assert refused.value.code == "job_not_found"


def test_waiting_gives_the_result_or_says_what_came_instead(server: ContractServer, client: Carillon) -> None:
    server.script("GET", STREAM, refusal(404, "not_found"))
    server.script("GET", JOB, Reply(DONE))
    assert client.wait("job-1", timeout=5) == {"steps": 3}
    error = {"code": "bad_picture", "message": "It is torn.", "retryable": False}
    server.script("GET", JOB, Reply(a_job("failed", error=error)))
    with pytest.raises(JobFailed, match=r"It is torn\.") as failed:
        client.wait("job-1")
    assert failed.value.code == "bad_picture"
    server.script("GET", JOB, Reply(a_job("cancelled", cancelReason="enough")))
    with pytest.raises(JobCancelled) as cancelled:
        client.wait("job-1")
    assert cancelled.value.reason == "enough"


@pytest.mark.parametrize("streams", [True, False])
def test_waiting_ends_in_time_also_when_nothing_is_heard(
    server: ContractServer, client: Carillon, held: threading.Event, streams: bool
) -> None:
    answer: Any = Stream([sse("job", a_job("active"))], held=held) if streams else refusal(404, "not_found")
    server.script("GET", STREAM, answer)
    server.script("GET", JOB, Reply(a_job("active")))
    began = time.monotonic()
    with pytest.raises(WaitedTooLong):
        client.wait("job-1", timeout=0.5)
    assert 0.5 <= time.monotonic() - began < 3


def numbered(number: int) -> str:
    return sse("job:progress", {"n": number}, f"7-{number}")


def test_events_go_on_after_a_cut_from_the_last_number(
    server: ContractServer, client: Carillon, held: threading.Event
) -> None:
    def by_number(asked: Asked) -> Stream:
        since = asked.headers.get("last-event-id")
        if since is None:
            return Stream([numbered(1), numbered(2), numbered(3)[:-1]], is_cut=True)
        missed = sse("resumed", {"recovered": True, "count": 1})
        return Stream([numbered(int(since.partition("-")[2]) + 1), missed, numbered(4)], held=held)

    server.script("GET", EVENTS, by_number)
    heard = list(islice(client.events(), 4))
    assert heard == [Event(f"7-{n}", "job:progress", {"n": n}) for n in (1, 2, 3, 4)]


def test_a_gap_is_told_where_the_server_says_so(
    server: ContractServer, client: Carillon, held: threading.Event
) -> None:
    lost = sse("resumed", {"recovered": False})
    server.script("GET", EVENTS, Stream([lost, sse("job:progress", {}, "9-1"), lost], held=held))
    heard = list(islice(client.events("7-2"), 3))
    assert heard == [Gap("7-2"), Event("9-1", "job:progress", {}), Gap("9-1")]
    assert server.requests("GET", EVENTS)[0].headers["last-event-id"] == "7-2"


def test_a_connection_lost_before_the_first_number_is_a_gap(
    server: ContractServer, client: Carillon, held: threading.Event
) -> None:
    server.script("GET", EVENTS, Stream(is_cut=True), Stream([numbered(1)], held=held))
    assert list(islice(client.events(), 2)) == [Gap(None), Event("7-1", "job:progress", {"n": 1})]


def test_a_number_told_before_the_first_event_is_enough_to_go_on_from(
    server: ContractServer, client: Carillon, held: threading.Event
) -> None:
    server.script("GET", EVENTS, Stream(["id: 7-5\n\n"], is_cut=True), Stream([numbered(6)], held=held))
    assert list(islice(client.events(), 1)) == [Event("7-6", "job:progress", {"n": 6})]
    assert server.requests("GET", EVENTS)[1].headers["last-event-id"] == "7-5"


def test_events_need_a_stream(client: Carillon) -> None:
    with pytest.raises(NoStream):
        next(client.events())
