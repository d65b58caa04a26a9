"""Circuit breakers of endpoints: one that is down is left alone, and asked by a single delivery now and then.

A circuit is *closed* while deliveries go as they come, *open* after some failures in a row until a time is up, then
*half open*: one delivery goes, and what comes of it closes the circuit or opens it for longer. Only failures that the
endpoint may recover from count (a time-out, a refused connection, 429, 5xx): one that answers 404 is up.

The states stand in Redis, for every delivery process to see; only circuits that have something to say stand there.
Where Redis is away every circuit counts as closed: the places of an endpoint still shrink with its failures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, cast
from uuid import UUID

import structlog
from redis.commands.core import Script
from redis.exceptions import RedisError

from service.clock import isoformat, utcnow
from service.redis_client import redis

log = structlog.get_logger(__name__)

CIRCUITS_KEY = "carillon:webhooks:circuits"
# Failures in a row that open a circuit.
OPENS_AFTER = 5
# Seconds it stays open the first time; each failed probe doubles it, up to the limit.
OPEN_SECONDS = 15.0
OPEN_SECONDS_LIMIT = 600.0
# A probe that has not ended by then was lost with its process.
PROBE_SECONDS = 30.0
# A circuit that nobody has touched for so long is that of an endpoint which nothing is sent to any more.
FORGET_SECONDS = 7 * 86_400.0

# Atomic, for several processes report on one endpoint at once. Times are unix seconds.
_REPORT = """
local circuit = cjson.decode(redis.call('HGET', KEYS[1], ARGV[1]) or '{"state":"closed","failures":0,"opened":0}')
local succeeded, failures, now, wait = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if succeeded > 0 then
    redis.call('HDEL', KEYS[1], ARGV[1])
    return
end
-- What was under way when the circuit opened tells nothing new.
local is_open = circuit.state == 'open' and now < circuit['until']
circuit.failures = circuit.failures + failures
circuit.at = now
if not is_open and (circuit.state ~= 'closed' or circuit.failures >= tonumber(ARGV[6])) then
    local seconds = math.min(tonumber(ARGV[7]) * 2 ^ circuit.opened, tonumber(ARGV[8]))
    circuit.state = 'open'
    circuit.opened = math.min(circuit.opened + 1, 20)
    circuit['until'] = now + math.max(seconds, wait)
end
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(circuit))
"""

# Whether a probe may go: 1 for whoever asks first after the time is up.
_PROBE = """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if not stored then return 1 end
local circuit, now = cjson.decode(stored), tonumber(ARGV[2])
if circuit.state == 'closed' then return 1 end
if now < circuit['until'] then return 0 end
circuit.state = 'half_open'
circuit['until'] = now + tonumber(ARGV[3])
circuit.at = now
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(circuit))
return 1
"""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of deliveries to one endpoint; `wait`: seconds it asked to be left alone for."""

    succeeded: int
    failed: int
    wait: float = 0.0


class Circuits:
    """The circuits as one delivery process sees them."""

    def __init__(self) -> None:
        self._known: Mapping[str, Mapping[str, Any]] = {}
        #: Endpoints whose circuits are not closed.
        self.broken: frozenset[str] = frozenset()

    def refresh(self) -> None:
        """Read them anew."""
        try:
            self._known = _read_all()
        except RedisError as error:
            self._lose(error)
        self.broken = frozenset(each for each, circuit in self._known.items() if circuit["state"] != "closed")

    def probe(self, endpoint: str) -> bool:
        """Whether a single delivery may go to an endpoint whose circuit is not closed: at most one at a time."""
        try:
            probe = _scripts()[1]
            return bool(probe(keys=[CIRCUITS_KEY], args=[endpoint, _now(), PROBE_SECONDS], client=redis()))
        except RedisError as error:
            self._lose(error)
            return True

    def opens_at(self, endpoint: str) -> datetime | None:
        """When the next probe may go."""
        until = self._known.get(endpoint, {}).get("until")
        return None if until is None else datetime.fromtimestamp(until, UTC)

    def report(self, reports: Mapping[str, Report]) -> None:
        """Have failures open circuits and successes close them."""
        news = {each: report for each, report in reports.items() if report.failed or each in self._known}
        if not news:
            return
        try:
            pipeline = redis().pipeline(transaction=False)
            for endpoint, report in news.items():
                _scripts()[0](
                    keys=[CIRCUITS_KEY],
                    args=[
                        endpoint,
                        report.succeeded,
                        report.failed,
                        _now(),
                        report.wait,
                        OPENS_AFTER,
                        OPEN_SECONDS,
                        OPEN_SECONDS_LIMIT,
                    ],
                    client=pipeline,
                )
            pipeline.execute()
        except RedisError as error:
            self._lose(error)
            return
        self.refresh()

    def _lose(self, error: RedisError) -> None:
        """Redis is away, and is not asked for each of them: every circuit counts as closed."""
        log.warning("circuits_unknown", error=str(error))
        self._known, self.broken = {}, frozenset()


def read_circuits(endpoints: Sequence[UUID]) -> dict[str, dict[str, Any]]:
    """`{state, failures, until}` of endpoints by the texts of their ids. Raises RedisError."""
    names = [str(endpoint) for endpoint in endpoints]
    stored = redis().hmget(CIRCUITS_KEY, names) if names else []
    return {name: _circuit_json(json.loads(text) if text else {}) for name, text in zip(names, stored, strict=True)}


def _circuit_json(circuit: Mapping[str, Any]) -> dict[str, Any]:
    state = circuit.get("state", "closed")
    until = circuit.get("until") if state == "open" else None
    return {
        "state": state,
        "failures": circuit.get("failures", 0),
        "until": None if until is None else isoformat(datetime.fromtimestamp(until, UTC)),
    }


def probe_first(endpoint: UUID) -> None:
    """Have one delivery go to an endpoint before all others, for it was switched on again. Raises RedisError."""
    circuit = {"state": "half_open", "failures": 0, "opened": 0, "until": _now(), "at": _now()}
    redis().hset(CIRCUITS_KEY, str(endpoint), json.dumps(circuit))


def forget_circuit(endpoint: UUID) -> None:
    """Close the circuit of an endpoint that is no more, or that leads elsewhere now. Raises RedisError."""
    redis().hdel(CIRCUITS_KEY, str(endpoint))


def forget_old_circuits() -> None:
    """Forget the circuits that nobody has touched for a week. Raises RedisError."""
    oldest = _now() - FORGET_SECONDS
    if old := [endpoint for endpoint, circuit in _read_all().items() if circuit.get("at", 0) < oldest]:
        redis().hdel(CIRCUITS_KEY, *old)


def _read_all() -> dict[str, Mapping[str, Any]]:
    stored = cast(Mapping[bytes, bytes], redis().hgetall(CIRCUITS_KEY))
    return {endpoint.decode(): json.loads(circuit) for endpoint, circuit in stored.items()}


def _now() -> float:
    return utcnow().timestamp()


@cache
def _scripts() -> tuple[Script, Script]:
    return redis().register_script(_REPORT), redis().register_script(_PROBE)
