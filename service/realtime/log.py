"""The numbered event log: per user, in Redis, without holes, and honest about what it has lost.

An event id is `<epoch>-<seq>`. Within an epoch `seq` grows by one; a new epoch begins when the log was lost (Redis
restarted empty, or the user was idle for longer than the log is kept) or may have missed something (a publisher could
not write). A reader who knows an event of another epoch is never told that nothing was missed.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import structlog
from redis.exceptions import NoScriptError

from service.queue import BROKER_ERRORS, RING_ANSWERS, heard, ring
from service.redis_client import redis
from service.settings import current_settings

log = structlog.get_logger(__name__)

# (user id, what happened in the words of the domain; the gateway speaks them in the words of each contract)
Entry = tuple[str, dict[str, Any]]

# Larger results are read over REST; the log and every listening socket are spared them.
MAXIMUM_RESULT_BYTES = 65_536

# The stream's own ids are the event ids, so a read from an event on needs no index.
# KEYS: head (hash: epoch, seq), stream. ARGV: now in ms, length, seconds, channel, fresh epoch?, entries…
APPEND = """
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch or ARGV[5] == '1' then
    local fresh = tonumber(ARGV[1])
    if epoch and tonumber(epoch) >= fresh then fresh = tonumber(epoch) + 1 end
    epoch = string.format('%.0f', fresh)
    redis.call('DEL', KEYS[2])
    redis.call('HSET', KEYS[1], 'epoch', epoch, 'seq', 0)
end
for i = 6, #ARGV do
    local id = epoch .. '-' .. redis.call('HINCRBY', KEYS[1], 'seq', 1)
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], id, 'e', ARGV[i])
    redis.call('PUBLISH', ARGV[4], id .. ' ' .. ARGV[i])
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[3])
"""

APPEND_SHA = hashlib.sha1(APPEND.encode(), usedforsecurity=False).hexdigest()

_missed: set[str] = set()
_missed_lock = threading.Lock()


class EventId(NamedTuple):
    """The number of an event: epochs do not compare, sequences within one do."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


def parse_event_id(text: object) -> EventId | None:
    """An event id as a client gave it; None for what is none."""
    epoch, _, seq = str(text).partition("-")
    if not (epoch.isascii() and epoch.isdigit() and seq.isascii() and seq.isdigit()):
        return None
    return EventId(int(epoch), int(seq)) if len(epoch) <= 16 and len(seq) <= 16 else None


@dataclass(frozen=True, slots=True)
class Event:
    """An entry with its number."""

    id: EventId
    entry: dict[str, Any]


def channel_of(user_id: str) -> str:
    """The channel that carries a user's events to the gateways."""
    return f"carillon:events:{user_id}"


def _keys(user_id: str) -> list[str]:
    # One hash tag, so that both live on one node of a cluster.
    return [f"carillon:log:{{{user_id}}}:head", f"carillon:log:{{{user_id}}}:stream"]


def append(entries: Sequence[Entry], wakes: Sequence[str] = ()) -> None:
    """Number and publish entries, and wake the tasks that have to do with them, in one pipeline.

    When Redis is away the entries are lost to the log, and the next one of each user begins a new epoch; what the tasks
    would have done is found by the ticks.
    """
    if not entries and not wakes:
        return
    settings = current_settings()
    by_user: dict[str, list[str]] = {}
    for user_id, entry in entries:
        by_user.setdefault(user_id, []).append(_serialized(entry))
    now = int(time.time() * 1000)
    limits = (settings.event_log_length, settings.event_log_seconds)
    calls: list[list[Any]] = [
        [*_keys(user_id), now, *limits, channel_of(user_id), int(user_id in _missed), *texts]
        for user_id, texts in by_user.items()
    ]
    try:
        _run(calls, wakes)
    except BROKER_ERRORS as error:
        log.warning("event_log_unavailable", error=str(error), users=len(by_user))
        with _missed_lock:
            _missed.update(by_user)
    else:
        if _missed:
            with _missed_lock:
                _missed.difference_update(by_user)


def _run(calls: Sequence[list[Any]], wakes: Sequence[str]) -> None:
    if len(calls) == 1 and not wakes:
        # The most frequent case by far, and a pipeline of one has its price.
        _run_one(calls[0])
        return
    pipeline = redis().pipeline(transaction=False)
    for call in calls:
        pipeline.evalsha(APPEND_SHA, 2, *call)
    for task_name in wakes:
        ring(pipeline, task_name)
    answers = pipeline.execute(raise_on_error=False)
    unknown = [call for call, answer in zip(calls, answers, strict=False) if isinstance(answer, NoScriptError)]
    if unknown:
        # A Redis that was restarted has forgotten the script.
        redis().script_load(APPEND)
        for call in unknown:
            _run_one(call)
    for answer in answers:
        if isinstance(answer, Exception) and not isinstance(answer, NoScriptError):
            raise answer
    for number, task_name in enumerate(wakes):
        begin = len(calls) + number * RING_ANSWERS
        heard(task_name, answers[begin : begin + RING_ANSWERS])


def _run_one(call: list[Any]) -> None:
    try:
        redis().evalsha(APPEND_SHA, 2, *call)
    except NoScriptError:
        redis().script_load(APPEND)
        redis().evalsha(APPEND_SHA, 2, *call)


def _serialized(entry: dict[str, Any]) -> str:
    text = json.dumps(entry, separators=(",", ":"), ensure_ascii=False)
    if len(text) > MAXIMUM_RESULT_BYTES and entry.get("job", {}).get("result") is not None:
        slim = {**entry, "job": {**entry["job"], "result": None, "resultTruncated": True}}
        return json.dumps(slim, separators=(",", ":"), ensure_ascii=False)
    return text


def head(user_id: str) -> EventId | None:
    """The number of a user's newest event; None when there is no log."""
    epoch, seq = redis().hmget(_keys(user_id)[0], "epoch", "seq")
    return None if epoch is None or seq is None else EventId(int(epoch), int(seq))


def read_after(user_id: str, last: EventId) -> list[Event] | None:
    """A user's events after `last`, in order; None when the log cannot tell all of them."""
    newest = head(user_id)
    if newest is None or newest.epoch != last.epoch or last.seq > newest.seq:
        return None
    if last.seq == newest.seq:
        return []
    rows = cast(list[tuple[bytes, dict[bytes, bytes]]], redis().xrange(_keys(user_id)[1], f"({last}", "+"))
    events = [Event(_event_id(row_id), json.loads(fields[b"e"])) for row_id, fields in rows]
    # The oldest may have been trimmed, and an epoch may have begun since the head was read.
    if not events or events[0].id != EventId(last.epoch, last.seq + 1) or events[-1].id.epoch != last.epoch:
        return None
    return events


def parse_message(data: bytes) -> Event:
    """An event as it travels on a user's channel."""
    number, _, text = data.partition(b" ")
    return Event(_event_id(number), json.loads(text))


def _event_id(text: bytes) -> EventId:
    epoch, _, seq = text.partition(b"-")
    return EventId(int(epoch), int(seq))
