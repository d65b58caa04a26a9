"""The numbered event log: no holes, honest about what it lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import pytest
from flask import Flask
from redis.exceptions import RedisError

from service.database import transaction
from service.realtime import log, untold
from service.realtime.log import RUN_KEY, EventId, append, head, notice_restart, parse_event_id, read_after
from service.realtime.untold import note_untold, settle_untold
from service.redis_client import redis
from tests.conftest import Servers

pytestmark = pytest.mark.usefixtures("in_app")


def numbers(user: str, since: EventId) -> list[int] | None:
    """The sequence numbers after an event."""
    events = read_after(user, since)
    return None if events is None else [event.id.seq for event in events]


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """News are late at once."""
    settle_untold()
    monkeypatch.setattr(untold, "LATE_SECONDS", 0)
    yield
    settle_untold()


def test_events_are_numbered_without_holes() -> None:
    user = str(uuid4())
    append([(user, {"event": "JobQueued"}), (user, {"event": "JobPostponed"})])
    append([(user, {"event": "JobProgressed"})])
    newest = head(user)
    assert newest is not None
    start = EventId(newest.epoch, 0)
    assert numbers(user, start) == [1, 2, 3]
    events = read_after(user, EventId(newest.epoch, 1))
    assert events is not None
    assert [event.entry["event"] for event in events] == ["JobPostponed", "JobProgressed"]
    assert numbers(user, newest) == []


def test_many_writers_leave_no_hole(app: Flask) -> None:
    user = str(uuid4())

    def write() -> None:
        with app.app_context():
            for _ in range(50):
                append([(user, {"event": "JobQueued"})])

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
    append([(user, {"event": "JobQueued"})])
    newest = head(user)
    assert newest is not None
    assert read_after(user, EventId(newest.epoch - 1, 1)) is None, "another epoch"
    assert read_after(user, EventId(newest.epoch, 99)) is None, "an event that has not happened"


def test_what_was_trimmed_is_missed_honestly() -> None:
    user = str(uuid4())
    append([(user, {"event": "JobQueued"}) for _ in range(10)])
    newest = head(user)
    assert newest is not None
    redis().xtrim(log._keys(user)[1], maxlen=3, approximate=False)
    assert numbers(user, EventId(newest.epoch, 7)) == [8, 9, 10]
    assert numbers(user, EventId(newest.epoch, 6)) is None


def test_a_redis_restarted_empty_begins_a_new_epoch(servers: Servers) -> None:
    user = str(uuid4())
    append([(user, {"event": "JobQueued"})])
    before = head(user)
    assert before is not None
    servers.redis.restart()
    assert read_after(user, before) is None
    append([(user, {"event": "JobPostponed"})])
    after = head(user)
    assert after is not None
    assert (after.epoch > before.epoch, after.seq) == (True, 1)
    assert read_after(user, before) is None


def told_while(user: str, act: Callable[[], None]) -> EventId:
    """The number of the newest event, once a thing that is to be told has been told or not by `act`."""
    with transaction():
        to_tell = note_untold([UUID(user)])
    act()
    append([(user, {"event": "JobQueued"})], untold=to_tell)
    newest = head(user)
    assert newest is not None
    return newest


def test_what_was_told_leaves_the_log_as_it_is(late: None) -> None:
    user = str(uuid4())
    newest = told_while(user, lambda: None)
    assert settle_untold() >= 1
    assert head(user) == newest
    assert settle_untold() == 0, "it is settled once"


def test_what_nobody_told_begins_a_new_epoch(late: None) -> None:
    user = str(uuid4())
    append([(user, {"event": "JobQueued"})])
    before = head(user)
    assert before is not None
    with transaction():
        note_untold([UUID(user)])
    settle_untold()
    assert read_after(user, before) is None, "a process died between its commit and its news"
    append([(user, {"event": "JobQueued"})])
    after = head(user)
    assert after is not None
    assert (after.epoch > before.epoch, after.seq) == (True, 1)


def test_news_that_redis_did_not_take_begin_a_new_epoch(late: None, servers: Servers) -> None:
    user = str(uuid4())
    append([(user, {"event": "JobQueued"})])
    before = head(user)
    assert before is not None
    with transaction():
        to_tell = note_untold([UUID(user)])
    servers.redis.freeze()
    try:
        append([(user, {"event": "JobPostponed"})], untold=to_tell)
        with pytest.raises(RedisError):
            settle_untold()
    finally:
        servers.redis.thaw()
    assert settle_untold() >= 1, "nothing is forgotten while Redis is away"
    # Redis may have got it after all, when it woke.
    assert read_after(user, before) is None or numbers(user, before) == [2]


def test_a_redis_that_was_restarted_may_have_forgotten_the_last_of_it(servers: Servers) -> None:
    user = str(uuid4())
    append([(user, {"event": "JobQueued"})])
    before = head(user)
    assert before is not None
    redis().set(RUN_KEY, "another process")
    notice_restart(redis())
    assert read_after(user, before) is None, "nobody has written since"
    notice_restart(redis())
    append([(user, {"event": "JobQueued"})])
    after = head(user)
    assert after is not None
    assert (after.epoch > before.epoch, after.seq) == (True, 1)
    notice_restart(redis())
    assert head(user) == after, "it was restarted once"


def test_an_entry_of_two_messages_has_two_numbers() -> None:
    user = str(uuid4())
    append([(user, {"event": "JobQueued"}), (user, {"event": "JobStarted"}), (user, {"event": "JobQueued"})])
    newest = head(user)
    assert newest is not None
    assert newest.seq == 4
    events = read_after(user, EventId(newest.epoch, 2))
    assert events is not None
    assert [(event.first, event.id.seq) for event in events] == [(2, 3), (4, 4)], (
        "the second of the two is still missed"
    )


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
