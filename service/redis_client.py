"""The connection to Redis that holds the event log, wake-ups and limits (the broker's is Celery's own)."""

from __future__ import annotations

from functools import cache

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from service.settings import current_settings

# redis-py waits for ever, or 5 s, depending on its version, where these are not said.
CONNECT_TIMEOUT_SECONDS = 1.0
SOCKET_TIMEOUT_SECONDS = 3.0


@cache
def _client(url: str) -> Redis:
    return Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        # A connection that Redis closed while it lay idle is opened anew once; a Redis that is away fails at once.
        retry=Retry(ConstantBackoff(0.05), 1, supported_errors=(RedisConnectionError,)),
        protocol=2,
    )


def redis() -> Redis:
    """The client of this process; every call may raise redis.RedisError."""
    return _client(current_settings().redis_url)
