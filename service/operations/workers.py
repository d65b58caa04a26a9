"""Which workers live: each tells so every 5 s."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import cast

import structlog
from redis.exceptions import RedisError

from service.redis_client import redis

log = structlog.get_logger(__name__)

# Three heartbeats missed.
ALIVE_SECONDS = 15.0


def _key(queue: str) -> str:
    return f"carillon:workers:{queue}"


def _processes_key(name: str) -> str:
    return f"carillon:worker-processes:{name}"


def note_worker(name: str, queues: Sequence[str], processes: int) -> None:
    """Remember that a worker lives, which queues it serves and how many jobs it can run at once."""
    now = time.time()
    try:
        pipeline = redis().pipeline(transaction=False)
        for queue in queues:
            pipeline.zadd(_key(queue), {name: now})
            pipeline.zremrangebyscore(_key(queue), "-inf", now - ALIVE_SECONDS)
            pipeline.expire(_key(queue), 60)
        pipeline.set(_processes_key(name), processes, ex=60)
        pipeline.execute()
    except (RedisError, OSError) as error:
        log.warning("heartbeat_failed", error=str(error))


def workers_alive(queue: str) -> list[str]:
    """Names of the workers that serve a queue; raises RedisError."""
    since = time.time() - ALIVE_SECONDS
    names = cast(list[bytes], redis().zrangebyscore(_key(queue), since, "+inf"))
    return [name.decode() for name in names]


def processes_of(queue: str) -> int:
    """How many jobs of a queue can run at once; raises RedisError."""
    names = workers_alive(queue)
    if not names:
        return 0
    counts = cast(list[bytes | None], redis().mget([_processes_key(name) for name in names]))
    return sum(int(count or 0) for count in counts)
