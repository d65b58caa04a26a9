"""The numbered event log: per user, in Redis, without holes, and honest about what it has lost.

An event id is `<epoch>-<seq>`. Within an epoch `seq` grows by one with each message of the default namespace; an entry
that is told in two messages has two numbers. A new epoch begins when the log was lost, when Redis was restarted and may
have forgotten the last of it, or when something happened that nobody told (see `service.realtime.untold`). A reader who
knows an event of another epoch is never told that nothing was missed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import structlog
from redis import Redis
from redis.exceptions import NoScriptError

from service.queue import BROKER_ERRORS, RING, bell_keys, heard, wake
from service.realtime.vocabulary import width
from service.redis_client import redis
from service.settings import current_settings

log = structlog.get_logger(__name__)

# (user id, what happened in the words of the domain; the gateway speaks them in the words of each contract)
Entry = tuple[str, dict[str, Any]]

# Larger results are read over REST; the log and every listening socket are spared them.
MAXIMUM_RESULT_BYTES = 65_536
# Who was idle for longer than the log is kept has missed nothing: the last number outlives the events.
HEAD_SECONDS = 90 * 86_400

# Counts the restarts of Redis: a log that was begun before the last one may have lost its end.
GENERATION_KEY = "carillon:log:generation"
RUN_KEY = "carillon:log:run"
# Ids of the rows of `untold_events` that have been told, with the time.
TOLD_KEY = "carillon:log:told"

# KEYS: head (hash: epoch, seq, generation), stream, generation. ARGV: now in ms, seconds the head is kept, force?
_EPOCH = """
local known = redis.call('HMGET', KEYS[1], 'epoch', 'generation')
local generation = redis.call('GET', KEYS[3]) or '0'
local epoch = known[1]
if not epoch or known[2] ~= generation or ARGV[3] == '1' then
    local fresh = tonumber(ARGV[1])
    if epoch and tonumber(epoch) >= fresh then fresh = tonumber(epoch) + 1 end
    epoch = string.format('%.0f', fresh)
    redis.call('DEL', KEYS[2])
    redis.call('HSET', KEYS[1], 'epoch', epoch, 'seq', 0, 'generation', generation)
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""

# The stream's own ids are the event ids, so a read from an event on needs no index. What is told together is published
# together: a message costs the gateway more than what is in it.
# KEYS: … and told, then the bells of tasks to wake. ARGV: … and channel, length, seconds, ids of the untold, then width
# and entry by turns.
APPEND = (
    _EPOCH
    + """
local lines = {}
for i = 8, #ARGV, 2 do
    local id = epoch .. '-' .. redis.call('HINCRBY', KEYS[1], 'seq', ARGV[i])
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], id, 'n', ARGV[i], 'e', ARGV[i + 1])
    lines[#lines + 1] = id .. ' ' .. ARGV[i] .. ' ' .. ARGV[i + 1]
end
redis.call('PUBLISH', ARGV[4], table.concat(lines, '\\n'))
redis.call('EXPIRE', KEYS[2], ARGV[6])
for id in string.gmatch(ARGV[7], '%d+') do redis.call('ZADD', KEYS[4], ARGV[1], id) end
"""
    + RING % 5
)

# An event without a number of its own: whoever follows the log sees that its epoch has ended.
BREAK = _EPOCH + "redis.call('PUBLISH', ARGV[4], epoch .. '-0 0 {}')"

NOTICE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[1])
    redis.call('INCR', KEYS[2])
end
"""

APPEND_SHA = hashlib.sha1(APPEND.encode(), usedforsecurity=False).hexdigest()


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
    """An entry with its numbers: `width` of them, of which `id` is the last."""

    id: EventId
    width: int
    entry: dict[str, Any]

    @property
    def first(self) -> int:
        """The first of its numbers."""
        return self.id.seq - self.width + 1


def channel_of(user_id: str) -> str:
    """The channel that carries a user's events to the gateways."""
    return f"carillon:events:{user_id}"


def _keys(user_id: str) -> list[str]:
    return [f"carillon:log:{user_id}:head", f"carillon:log:{user_id}:stream", GENERATION_KEY, TOLD_KEY]


def append(
    entries: Sequence[Entry], wakes: Sequence[str] = (), untold: Mapping[str, Sequence[int]] | None = None
) -> None:
    """Number and publish entries, and wake the tasks that have to do with them, all in one go.

    `untold`: by user the rows of `untold_events` that are told by this. When Redis is away they stay, and the log of
    each user is broken later on; what the tasks would have done is found by the ticks.
    """
    if not entries:
        for task_name in wakes:
            wake(task_name)
        return
    settings = current_settings()
    by_user: dict[str, list[Any]] = {}
    for user_id, entry in entries:
        by_user.setdefault(user_id, []).extend((width(entry), _serialized(entry)))
    now = int(time.time() * 1000)
    limits = (settings.event_log_length, settings.event_log_seconds)
    calls: list[list[Any]] = []
    for user_id, texts in by_user.items():
        keys = _keys(user_id)
        if not calls:
            # The bells are rung once.
            keys += [key for task_name in wakes for key in bell_keys(task_name)]
        values = [now, HEAD_SECONDS, 0, channel_of(user_id), *limits, _listed(untold, user_id), *texts]
        calls.append([len(keys), *keys, *values])
    try:
        for task_name, sleeps in zip(wakes, _run(calls), strict=True):
            heard(task_name, sleeps)
    except BROKER_ERRORS as error:
        log.warning("event_log_unavailable", error=str(error), users=len(by_user))


def _listed(untold: Mapping[str, Sequence[int]] | None, user_id: str) -> str:
    return " ".join(map(str, untold.get(user_id, ()))) if untold else ""


def _run(calls: Sequence[list[Any]]) -> Sequence[int]:
    """The answer to the first of these calls of the script."""
    if len(calls) == 1:
        # The most frequent case by far, and a pipeline of one has its price.
        return _run_one(calls[0])
    pipeline = redis().pipeline(transaction=False)
    for call in calls:
        pipeline.evalsha(APPEND_SHA, *call)
    answers = pipeline.execute(raise_on_error=False)
    for number, answer in enumerate(answers):
        if isinstance(answer, NoScriptError):
            answers[number] = _run_one(calls[number])
        elif isinstance(answer, Exception):
            raise answer
    return cast("Sequence[int]", answers[0])


def _run_one(call: list[Any]) -> Sequence[int]:
    try:
        return cast("Sequence[int]", redis().evalsha(APPEND_SHA, *call))
    except NoScriptError:
        _load_script()
        return cast("Sequence[int]", redis().evalsha(APPEND_SHA, *call))


def _load_script() -> None:
    # A Redis that was restarted has forgotten the script: so nothing is written before the restart is noticed.
    notice_restart(redis())
    redis().script_load(APPEND)


def notice_restart(client: Redis) -> None:
    """Have all logs begin a new epoch if Redis is another process than when somebody looked last.

    It may have come back with everything but its last second. Raises RedisError.
    """
    run = client.info("server")["run_id"]
    client.eval(NOTICE, 2, RUN_KEY, GENERATION_KEY, run)


def break_log(user_id: str) -> None:
    """Begin a new epoch: something was not told to this user. Whoever is connected is told to read again."""
    now = int(time.time() * 1000)
    redis().eval(BREAK, 3, *_keys(user_id)[:3], str(now), str(HEAD_SECONDS), "1", channel_of(user_id))


def _serialized(entry: dict[str, Any]) -> str:
    text = json.dumps(entry, separators=(",", ":"), ensure_ascii=False)
    if len(text) > MAXIMUM_RESULT_BYTES and entry.get("job", {}).get("result") is not None:
        slim = {**entry, "job": {**entry["job"], "result": None, "resultTruncated": True}}
        return json.dumps(slim, separators=(",", ":"), ensure_ascii=False)
    return text


def head(user_id: str) -> EventId | None:
    """The number of a user's newest event; None when there is no log that can be relied on."""
    pipeline = redis().pipeline(transaction=False)
    pipeline.hmget(_keys(user_id)[0], "epoch", "seq", "generation")
    pipeline.get(GENERATION_KEY)
    (epoch, seq, begun), generation = pipeline.execute()
    if epoch is None or seq is None or begun != (generation or b"0"):
        return None
    return EventId(int(epoch), int(seq))


def read_after(user_id: str, last: EventId) -> list[Event] | None:
    """The events after `last`, of the first of which some messages may be older; None when the log cannot tell all."""
    newest = head(user_id)
    if newest is None or newest.epoch != last.epoch or last.seq > newest.seq:
        return None
    if last.seq == newest.seq:
        return []
    rows = cast(list[tuple[bytes, dict[bytes, bytes]]], redis().xrange(_keys(user_id)[1], f"({last}", "+"))
    events = [Event(_event_id(row_id), int(fields[b"n"]), json.loads(fields[b"e"])) for row_id, fields in rows]
    # The oldest may have been trimmed, and an epoch may have begun since the head was read.
    if not events or events[0].first > last.seq + 1 or events[-1].id.epoch != last.epoch:
        return None
    return events


def parse_message(data: bytes) -> Iterator[Event]:
    """The events of one message on a user's channel: a line each, which JSON never breaks."""
    for line in data.split(b"\n"):
        number, numbers, text = line.split(b" ", 2)
        yield Event(_event_id(number), int(numbers), json.loads(text))


def _event_id(text: bytes) -> EventId:
    epoch, _, seq = text.partition(b"-")
    return EventId(int(epoch), int(seq))
