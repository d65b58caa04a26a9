"""Clients that are cut off while hundreds of jobs run: each event once and in order, or one honest admission."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from tests.acceptance.journal import UNNUMBERED, Heard, Journal
from tests.acceptance.lines import Line
from tests.acceptance.platform import Person, Platform
from tests.acceptance.waiting import until

pytestmark = pytest.mark.xdist_group("news faults")

JOBS = 500
FINAL = {"completed", "failed", "cancelled"}
# News that are not told are admitted when they are ten seconds old, by a tick that comes every five.
ADMISSION_SECONDS = 20.0


def submit(person: Person, count: int = JOBS) -> list[str]:
    """As many quick jobs at once; their ids."""
    jobs = [{"type": "demo-steps", "payload": {"steps": 2}}] * count
    return [job["id"] for job in person.ask("POST", "/api/jobs/batch", {"jobs": jobs}, 202)["data"]]


def is_loss(event: Heard) -> bool:
    return event.name == "resumed" and not event.data["recovered"]


def assert_each_once_and_in_order(journal: Journal) -> None:
    """No event came twice, and between two admissions of a loss none is missing."""
    stretches: list[Journal] = [Journal(journal.owner)]
    for event in journal.heard:
        if is_loss(event):
            stretches.append(Journal(f"{journal.owner}, after loss {len(stretches)},"))
        stretches[-1].note(*event)
    numbers = [number for stretch in stretches for number in stretch.assert_complete()]
    assert len(numbers) == len(set(numbers)), "something from before a loss was told again"


def assert_tells_all(journal: Journal, job_ids: Sequence[str]) -> None:
    """Every turn of every job was heard, once."""
    heard = Counter((each.name, each.job_id) for each in journal.heard if each.name not in UNNUMBERED)
    for name in ("job:created", "job:started", "job:completed"):
        times = Counter({job_id: heard[name, job_id] for job_id in job_ids})
        assert times == Counter(job_ids), f"{name}: {[each for each in times.items() if each[1] != 1][:5]}"


class Picture:
    """What a page shows of its user's jobs: events change it, and a loss has it read REST once."""

    def __init__(self, person: Person, journal: Journal) -> None:
        self.statuses: dict[str, str] = {}
        self.losses = 0
        self._person, self._journal, self._seen = person.again(), journal, 0

    def look(self) -> dict[str, str]:
        """Take in what was heard since the last look."""
        fresh = self._journal.heard[self._seen :]
        for event in fresh:
            if is_loss(event):
                self.losses += 1
                self.statuses = self._read()
            elif event.name == "job:status" and self.statuses.get(event.data["jobId"]) not in FINAL:
                # What was read is newer than events that were on their way.
                self.statuses[event.data["jobId"]] = event.data["status"]
        self._seen += len(fresh)
        return self.statuses

    def _read(self) -> dict[str, str]:
        read: dict[str, str] = {}

        def page(number: int) -> Any:
            try:
                answer = self._person.send("GET", f"/api/jobs?limit=100&page={number}")
            except requests.ConnectionError:
                return None
            return answer.json() if answer.status_code == 200 else None

        number = pages = 1
        while number <= pages:
            body = until(lambda: page(number), "an answer from REST", 40)  # noqa: B023 - called before the next round
            read |= {job["id"]: job["status"] for job in body["data"]}
            number, pages = number + 1, body["pagination"]["totalPages"]
        return read


def await_right_picture(picture: Picture, job_ids: Sequence[str], seconds: float = 60.0) -> None:
    """Wait until the client knows, by what it was told and read, that every job is completed."""
    __tracebackhide__ = True
    until(
        lambda: picture.look() == dict.fromkeys(job_ids, "completed"),
        lambda: f"the end of {len(job_ids)} jobs; shown are {Counter(picture.statuses.values())}",
        seconds,
    )


def done(journal: Journal) -> int:
    return sum(each.name == "job:completed" for each in journal.heard)


def test_a_client_whose_connection_is_cut_again_and_again_hears_everything_once(
    platform: Platform, person: Person
) -> None:
    with Line(platform.url) as line, person.socket(url=line.url) as socket, person.stream(url=line.url) as stream:
        picture = Picture(person, socket.journal)
        job_ids = submit(person)
        for reached in range(50, JOBS, 90):
            until(lambda reached=reached: done(socket.journal) >= reached, f"{reached} jobs", 30)  # type: ignore[misc]
            until(lambda: not socket.disconnected.is_set(), "a connection to cut", 10)
            assert line.cut()
            # First, for it will soon be connected again.
            assert socket.disconnected.wait(10), "the client did not notice"
            stream.reconnect()
        await_right_picture(picture, job_ids)
        for journal in (socket.journal, stream.journal):
            journal.all_completed(job_ids)
            assert_each_once_and_in_order(journal)
            assert_tells_all(journal, job_ids)
        assert picture.losses == 0
        assert line.cuts == 5


def test_the_clients_of_a_killed_web_node_hear_everything_once(platform: Platform, person: Person) -> None:
    web = platform.stack.process("web")
    with ExitStack() as stack:
        first, *others = [stack.enter_context(person.socket(transports=["websocket"])) for _ in range(4)]
        picture = Picture(person, first.journal)
        job_ids = submit(person)
        for reached in (100, 300):
            until(lambda reached=reached: done(first.journal) >= reached, f"{reached} jobs", 30)  # type: ignore[misc]
            web.kill()
            assert first.disconnected.wait(10)
            web.start()
            until(lambda: not first.disconnected.is_set(), "a new connection", 30)
        await_right_picture(picture, job_ids)
        assert picture.losses == 0
        for socket in (first, *others):
            socket.journal.all_completed(job_ids, 40)
            assert_each_once_and_in_order(socket.journal)
            assert_tells_all(socket.journal, job_ids)


@pytest.mark.parametrize("persistent", [False, True], ids=["empty", "without its last second"])
def test_a_client_is_told_honestly_what_a_killed_redis_forgot(
    platform: Platform, person: Person, persistent: bool
) -> None:
    redis = platform.stack.redis
    assert redis
    redis.persistent = persistent
    try:
        redis.restart()
        platform.mend()
        with person.socket() as socket:
            picture = Picture(person, socket.journal)
            job_ids = submit(person)
            until(lambda: done(socket.journal) >= 100, "100 jobs", 30)
            redis.kill()
            redis.start()
            await_right_picture(picture, job_ids, 90)
            assert 1 <= picture.losses <= 4, picture.losses
            # From here on all is as it was.
            last = person.submit()
            socket.journal.first("job:completed", last)
            assert_each_once_and_in_order(socket.journal)
    finally:
        redis.persistent = False
        redis.restart()


def test_a_child_killed_at_work_leaves_no_client_with_a_wrong_picture(platform: Platform, person: Person) -> None:
    worker = platform.stack.process("worker")
    with person.socket() as socket:
        picture = Picture(person, socket.journal)
        job_ids = submit(person, 60)
        for reached in (10, 30):
            until(lambda reached=reached: done(socket.journal) >= reached, f"{reached} jobs", 30)  # type: ignore[misc]
            worker.descendants()[0].kill()
        await_right_picture(picture, job_ids)
        assert_each_once_and_in_order(socket.journal)


def test_what_a_dying_process_did_not_tell_is_admitted_and_what_was_told_is_not(
    platform: Platform, person: Person
) -> None:
    other = platform.newcomer()

    def open_rows(of: Person) -> bool:
        return bool(platform.records.rows("SELECT 1 FROM untold_events WHERE user_id = %s", of.id))

    with (
        person.socket() as socket,
        person.socket("/queue") as updates,
        person.stream() as stream,
        other.socket() as elsewhere,
    ):
        journals = [socket.journal, updates.journal, stream.journal]
        job_id = person.submit()
        for journal in (socket.journal, stream.journal):
            journal.first("job:completed", job_id)
        elsewhere.journal.all_completed(submit(other, 50))
        before = socket.last_event_id
        assert open_rows(other)
        # Late, so that the next tick looks at them.
        platform.records.rows("UPDATE untold_events SET created_at = created_at - interval '1 minute'")
        # All that is left of a process that died between its commit and its news.
        platform.records.rows(
            "INSERT INTO untold_events (user_id, created_at) VALUES (%s, clock_timestamp() - interval '1 minute')",
            person.id,
        )
        for journal in journals:
            assert journal.first("resumed", seconds=ADMISSION_SECONDS) == {"recovered": False}
        after = person.submit()
        socket.journal.first("job:completed", after)
        stream.journal.first("job:completed", after)
        assert_each_once_and_in_order(socket.journal)
        assert_each_once_and_in_order(stream.journal)
        until(lambda: not open_rows(other), "the tick that forgets what was told", ADMISSION_SECONDS)
        elsewhere.journal.first("job:completed", other.submit())
        assert "resumed" not in {each.name for each in elsewhere.journal.heard}, "nothing was kept from him"
    with person.socket(last_event_id=before) as socket:
        assert socket.journal.first("resumed") == {"recovered": False}
