"""Which providers are left alone for a while: those that failed several times in a row.

After three failures a provider rests for five seconds; then one letter goes, and what comes of it ends the rest or
makes the next one twice as long, up to a minute. The rests stand in Redis, for every process that sends to see. Where
Redis is away nobody rests: each letter then finds out by itself.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import NamedTuple

import structlog
from redis.commands.core import Script
from redis.exceptions import RedisError

from service.clock import utcnow
from service.redis_client import redis

log = structlog.get_logger(__name__)

KEY_PREFIX = "carillon:providers:"
# Failures in a row that begin a rest.
RESTS_AFTER = 3
REST_SECONDS = 5.0
REST_SECONDS_LIMIT = 60.0
# The letter that goes after a rest has to end by then, else another one goes.
PROBE_SECONDS = 20.0
# What nobody has touched for so long is forgotten.
FORGET_SECONDS = 3600
ERROR_LENGTH = 200

# Empty where a letter may go, else the seconds of rest that are left, and the last error. Times are unix seconds.
_REST = """
local until_ = redis.call('HGET', KEYS[1], 'until')
if not until_ then return {} end
local now = tonumber(ARGV[1])
if tonumber(until_) > now then
    return {tostring(tonumber(until_) - now), redis.call('HGET', KEYS[1], 'error')}
end
redis.call('HSET', KEYS[1], 'until', tostring(now + tonumber(ARGV[2])), 'probe', '1')
return {}
"""

# What was under way when a rest began tells nothing new.
_FAILED = """
local until_, is_probe = redis.call('HGET', KEYS[1], 'until'), redis.call('HDEL', KEYS[1], 'probe') == 1
if until_ and tonumber(until_) > tonumber(ARGV[1]) and not is_probe then return end
local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
redis.call('HSET', KEYS[1], 'error', ARGV[2])
if until_ or failures >= tonumber(ARGV[3]) then
    local rests = redis.call('HINCRBY', KEYS[1], 'rests', 1)
    local seconds = math.min(tonumber(ARGV[4]) * 2 ^ (rests - 1), tonumber(ARGV[5]))
    redis.call('HSET', KEYS[1], 'until', tostring(tonumber(ARGV[1]) + seconds))
end
redis.call('EXPIRE', KEYS[1], ARGV[6])
"""


class Rest(NamedTuple):
    """How long a provider is still left alone, and why."""

    seconds: float
    error: str


def rest_of(place: str) -> Rest | None:
    """The rest of a provider; None where a letter may go: after a rest this is said to one letter only."""
    try:
        answer = _scripts()[0](keys=[_key(place)], args=[_now(), PROBE_SECONDS], client=redis())
    except RedisError:
        return None
    return Rest(float(answer[0]), answer[1].decode()) if answer else None


def failed(place: str, error: str) -> None:
    """Note that a provider failed."""
    rules = (RESTS_AFTER, REST_SECONDS, REST_SECONDS_LIMIT, FORGET_SECONDS)
    try:
        _scripts()[1](keys=[_key(place)], args=[_now(), error[:ERROR_LENGTH], *rules], client=redis())
    except RedisError as trouble:
        log.warning("provider_health_not_told", error=str(trouble))


def succeeded(place: str) -> None:
    """Note that a provider answered: what it failed before counts no more."""
    try:
        redis().delete(_key(place))
    except RedisError as trouble:
        log.warning("provider_health_not_told", error=str(trouble))


def _key(place: str) -> str:
    return KEY_PREFIX + hashlib.sha256(place.encode()).hexdigest()[:32]


def _now() -> float:
    return utcnow().timestamp()


@cache
def _scripts() -> tuple[Script, Script]:
    return redis().register_script(_REST), redis().register_script(_FAILED)
