"""Guessing passwords is slow: a few attempts a minute for each user name and address, and for each address."""

from __future__ import annotations

import hashlib

import structlog
from redis.exceptions import RedisError

from service.errors import RateLimited
from service.redis_client import redis
from service.settings import current_settings

log = structlog.get_logger(__name__)

WINDOW_SECONDS = 60
# What one address may try with all names together, as a multiple of that: an office behind one address stays below it,
# somebody who tries one password on everybody does not.
NAMES_PER_ADDRESS = 30


def count_attempt(login: str, address: str | None) -> None:
    """Count an attempt before its password is looked at; raises RateLimited beyond the setting.

    Counted before and forgiven after, because a thousand guesses sent at once would all be checked before the first
    failure was on record. Without Redis nothing is counted.
    """
    limit = current_settings().login_attempts_per_minute
    limits = {_key(login, address): limit, _address_key(address): limit * NAMES_PER_ADDRESS}
    try:
        with redis().pipeline() as pipeline:
            for key in limits:
                pipeline.set(key, 0, nx=True, ex=WINDOW_SECONDS)
                pipeline.incr(key)
                pipeline.ttl(key)
            answers = pipeline.execute()
    except RedisError as error:
        log.warning("login_throttle_unavailable", error=str(error))
        return
    for number, allowed in enumerate(limits.values()):
        _, attempts, seconds_left = answers[3 * number : 3 * number + 3]
        if attempts > allowed:
            raise RateLimited("Too many attempts to log in.", retry_after=max(seconds_left, 1))


def forgive_attempts(login: str, address: str | None) -> None:
    """Forget the attempts before a successful one: for a name only failures count."""
    try:
        redis().delete(_key(login, address))
    except RedisError as error:
        log.warning("login_throttle_unavailable", error=str(error))


def _key(login: str, address: str | None) -> str:
    # Hashed, because what people type as their name is sometimes their password, and of any length.
    digest = hashlib.sha256(f"{address}\n{login.lower()}".encode()).hexdigest()
    return f"carillon:login:{digest[:32]}"


def _address_key(address: str | None) -> str:
    return f"carillon:login-address:{address}"
