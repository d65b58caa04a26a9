"""The Python client against a whole platform."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

import pytest

from service.client import Carillon, Event, JobCancelled, JobFailed, NotFound, NotReached
from tests.acceptance.platform import PASSWORD, Person, Platform
from tests.acceptance.waiting import until

pytestmark = pytest.mark.xdist_group("platform")

SECONDS = 20
LIFE = ["job:created", "job:started", "job:progress", "job:completed"]


@pytest.fixture
def person(platform: Platform) -> Person:
    return platform.newcomer()


@pytest.fixture
def client(person: Person) -> Iterator[Carillon]:
    with Carillon(person.url, username=person.username, password=PASSWORD) as client:
        yield client


class Ear:
    """Listens to a client's events in a thread of its own."""

    def __init__(self, client: Carillon) -> None:
        self.heard: list[Event] = []
        self._client = client
        self._is_over = False
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def begin(self, person: Person) -> None:
        """The stream begins at a moment of its own: jobs are submitted until one is heard of to its end."""
        job_id = ""
        ends = time.monotonic() + SECONDS
        while not self._has_ended(job_id):
            assert time.monotonic() < ends, "nothing was heard"
            job_id = person.submit(payload={"steps": 1})
            with suppress(pytest.fail.Exception):
                self.wait_for_end(job_id, 1)

    def wait_for_end(self, job_id: str, seconds: float = SECONDS) -> None:
        """Return when the end of a job was heard."""
        until(lambda: self._has_ended(job_id), f"the end of {job_id}", seconds)

    def _has_ended(self, job_id: str) -> bool:
        ends = {event.data["jobId"] for event in self.heard if event.name == "job:completed"}
        return job_id in ends

    def _listen(self) -> None:
        try:
            for event in self._client.events():
                if self._is_over:
                    return
                assert isinstance(event, Event), event
                self.heard.append(event)
        except NotReached:
            # The cable, or the platform, is gone before its listener.
            if not self._is_over:
                raise

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True


class Cable:
    """Carries connections to a server, and cuts them."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.count = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Break every connection there is, and wait for the next one."""
        count = self.count
        self._break()
        until(lambda: self.count > count, "a new connection")

    def _break(self) -> None:
        while self._ends:
            with suppress(OSError):
                self._ends.pop().shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._break()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self.count += 1
                self._ends += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=_carry, args=pair, daemon=True).start()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
    source.close()


def assert_without_holes(events: list[Event]) -> None:
    numbers = [int(event.id.partition("-")[2]) for event in events if event.id]
    assert numbers == list(range(numbers[0], numbers[0] + len(events)))


def test_a_job_is_submitted_watched_and_waited_for(client: Carillon) -> None:
    job = client.submit("demo-steps", {"steps": 20, "sleepMs": 50}, name="Mine", tags=["a"])
    updates = list(client.watch(job["id"]))
    assert updates[-1].job["result"] == {"steps": 20, "attempt": 1}
    percentages = [update.percentage for update in updates]
    assert percentages == sorted(percentages)
    # Asked for now and then, it would have shown a few of them.
    assert len(set(percentages)) > 5
    assert client.wait(job["id"], timeout=5) == {"steps": 20, "attempt": 1}
    assert [each["id"] for each in client.jobs(tag="a")] == [job["id"]]


def test_how_a_job_ends_is_an_exception_unless_it_completes(client: Carillon, platform: Platform) -> None:
    failing = client.submit("demo-steps", {"steps": 1, "failAt": 1, "permanent": True})
    with pytest.raises(JobFailed) as failed:
        client.wait(failing["id"], timeout=20)
    assert failed.value.code == "demo_failure"
    waiting = client.submit("demo-wait", {"seconds": 60})
    client.cancel(waiting["id"], "enough")
    with pytest.raises(JobCancelled) as cancelled:
        client.wait(waiting["id"], timeout=20)
    assert cancelled.value.reason == "enough"
    foreign = platform.stranger().submit(payload={"steps": 1})
    with pytest.raises(NotFound):
        client.wait(foreign, timeout=20)


def test_events_come_in_order_and_go_on_where_they_were_left(client: Carillon, person: Person) -> None:
    with Ear(client) as ear:
        ear.begin(person)
        job_id = person.submit(payload={"steps": 2, "sleepMs": 600})
        ear.wait_for_end(job_id)
    about_it = [event.name for event in ear.heard if event.data.get("jobId", event.data.get("id")) == job_id]
    assert [name for name in dict.fromkeys(about_it) if name in LIFE] == LIFE
    assert_without_holes(ear.heard)
    middle = len(ear.heard) // 2
    replayed = client.events(ear.heard[middle].id)
    assert [next(replayed) for _ in ear.heard[middle + 1 :]] == ear.heard[middle + 1 :]


def test_events_are_heard_once_each_though_connections_are_cut(person: Person) -> None:
    with (
        Cable(person.url) as cable,
        Carillon(cable.url, username=person.username, password=PASSWORD) as client,
        Ear(client) as ear,
    ):
        ear.begin(person)
        for _ in range(3):
            ids = person.submit_many(8, {"steps": 2, "sleepMs": 20})
            cable.cut()
        for job_id in ids:
            ear.wait_for_end(job_id)
    assert_without_holes(ear.heard)


def test_the_inbox_counts_what_is_read(client: Carillon) -> None:
    client.wait(client.submit("demo-steps", {"steps": 1})["id"], timeout=20)
    before = client.unread_count()
    newest = next(client.notifications(unread=True))
    client.mark_read(newest["id"])
    assert client.unread_count() == before - 1
    assert client.mark_all_read() == before - 1
    assert list(client.notifications(unread=True)) == []
