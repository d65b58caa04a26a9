"""How long a queued job still has to wait, as far as can be told cheaply.

How many are ahead of it is counted in SQL up to a bound; beyond that, and for how fast they go, there are the figures
that a tick measures every few seconds (`service.queues.statistics`) and leaves in Redis.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import structlog
from redis.exceptions import RedisError

from service.events import JobRow
from service.jobs.states import QUEUED
from service.redis_client import redis

log = structlog.get_logger(__name__)

FIGURES_KEY = "carillon:queue-figures"
# How many are ahead of a job is counted no further than this.
COUNTED_AHEAD = 100
CACHED_SECONDS = 1.0

Figures = Mapping[str, Mapping[str, Any]]
_cached: tuple[float, Figures] = (0.0, {})


def figures() -> Figures:
    """By queue `{queued: {priority: jobs}, active, processes, meanSeconds, ratePerMinute}`; none before a measure."""
    global _cached  # noqa: PLW0603 - one copy a process
    read_at, known = _cached
    if time.monotonic() - read_at < CACHED_SECONDS:
        return known
    try:
        text = redis().get(FIGURES_KEY)
        known = json.loads(text) if isinstance(text, bytes) else {}
    except (RedisError, OSError) as error:
        log.warning("figures_unavailable", error=str(error))
        known = {}
    _cached = (time.monotonic(), known)
    return known


def place(row: JobRow) -> dict[str, Any]:
    """`{queuePosition, estimatedWaitSeconds?}` of a queued job whose row says how many are `ahead`, else nothing."""
    ahead = row.get("ahead")
    if ahead is None or row["status"] != QUEUED:
        return {}
    measured = figures().get(row["queue"])
    if measured is None:
        return {"queuePosition": ahead + 1}
    if ahead >= COUNTED_AHEAD:
        queued = measured["queued"].items()
        ahead = max(ahead, sum(jobs for priority, jobs in queued if int(priority) >= row["priority"]))
    position = {"queuePosition": ahead + 1}
    if measured["meanSeconds"] is None or not measured["processes"]:
        return position
    before = max(0, ahead + 1 + measured["active"] - measured["processes"])
    return {**position, "estimatedWaitSeconds": round(before * measured["meanSeconds"] / measured["processes"], 1)}
