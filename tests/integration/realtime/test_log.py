"""The numbered event log: no holes, honest about what it lost."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest
from flask import Flask

from service.realtime import log
from service.realtime.log import EventId, append, head, parse_event_id, read_after
from service.redis_client import redis
from tests.conftest import Servers

pytestmark = pytest.mark.usefixtures("in_app")


def numbers(user: str, since: EventId) -> list[int] | None:
    """The sequence numbers after an event."""
    events = read_after(user, since)
    return None if events is None else [event.id.seq for event in events]


def test_events_are_numbered_without_holes() -> None:
    user = str(uuid4())
    append([(user, {"event": "A"}), (user, {"event": "B"})])
    append([(user, {"event": "C"})])
    newest = head(user)
    assert newest is not None
    start = EventId(newest.epoch, 0)
    assert numbers(user, start) == [1, 2, 3]
    events = read_after(user, EventId(newest.epoch, 1))
    assert events is not None
    assert [event.entry["event"] for event in events] == ["B", "C"]
    assert numbers(user, newest) == []


def test_many_writers_leave_no_hole(app: Flask) -> None:
    user = str(uuid4())

    def write() -> None:
        with app.app_context():
            for _ in range(50):
                append([(user, {"event": "A"})])

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    newest = head(user)
    assert newest is not None
    assert numbers(user, EventId(newest.epoch, 0)) == list(range(1, 201))


def test_an_unknown_past_is_not_told_as_complete() -> None:
    user = str(uuid4())
    assert read_after(user, EventId(1, 1)) is None, "there is no log"
    append([(user, {"event": "A"})])
    newest = head(user)
    assert newest is not None
    assert read_after(user, EventId(newest.epoch - 1, 1)) is None, "another epoch"
    assert read_after(user, EventId(newest.epoch, 99)) is None, "an event that has not happened"


def test_what_was_trimmed_is_missed_honestly() -> None:
    user = str(uuid4())
    append([(user, {"event": "A"}) for _ in range(10)])
    newest = head(user)
    assert newest is not None
    redis().xtrim(log._keys(user)[1], maxlen=3, approximate=False)
    assert numbers(user, EventId(newest.epoch, 7)) == [8, 9, 10]
    assert numbers(user, EventId(newest.epoch, 6)) is None


def test_a_redis_restarted_empty_begins_a_new_epoch(servers: Servers) -> None:
    user = str(uuid4())
    append([(user, {"event": "A"})])
    before = head(user)
    assert before is not None
    servers.redis.restart()
    assert read_after(user, before) is None
    append([(user, {"event": "B"})])
    after = head(user)
    assert after is not None
    assert (after.epoch > before.epoch, after.seq) == (True, 1)
    assert read_after(user, before) is None


def test_a_writer_that_could_not_write_begins_a_new_epoch(servers: Servers) -> None:
    user = str(uuid4())
    append([(user, {"event": "A"})])
    before = head(user)
    assert before is not None
    servers.redis.freeze()
    try:
        append([(user, {"event": "lost"})])
    finally:
        servers.redis.thaw()
    append([(user, {"event": "B"})])
    after = head(user)
    assert after is not None
    assert after.epoch > before.epoch
    assert read_after(user, before) is None


def test_a_large_result_is_left_out_and_said_to_be() -> None:
    user = str(uuid4())
    append([(user, {"event": "JobCompleted", "job": {"id": "1", "result": "x" * 100_000}})])
    newest = head(user)
    assert newest is not None
    events = read_after(user, EventId(newest.epoch, 0))
    assert events is not None
    assert events[0].entry["job"] == {"id": "1", "result": None, "resultTruncated": True}


@pytest.mark.parametrize("text", ["", "1", "-", "a-1", "1-b", "1-2-3", "²-1", "9" * 30 + "-1", None, 5, {"a": 1}])
def test_what_is_no_event_id(text: object) -> None:
    assert parse_event_id(text) is None


def test_an_event_id_reads_as_it_was_written() -> None:
    assert parse_event_id(str(EventId(1700000000000, 42))) == EventId(1700000000000, 42)
