"""Passwords, hashed with argon2id away from the event loop."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from functools import cache
from typing import ParamSpec, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from service.threads import aside

P = ParamSpec("P")
R = TypeVar("R")

# OWASP's cheat sheet on password storage: 19 MiB, two passes, one lane; about 20 ms of one core.
_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
# A flood of log-ins waits here, so that it takes neither all cores nor all memory from the rest of the process.
_places = threading.BoundedSemaphore(2)

MADE_UP_BYTES = 15


def hash_password(password: str) -> str:
    """The argon2id hash of a password, with its salt and parameters."""
    return _aside(_hasher.hash, password)


def verify_password(password_hash: str | None, password: str) -> bool:
    """Whether the password fits; takes as long for None, which stands for a user that does not exist."""
    return _aside(_verify, password_hash or _nobodys_hash(), password) and password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    return _hasher.check_needs_rehash(password_hash)


def make_up_password() -> str:
    """A password of 20 URL-safe characters."""
    return secrets.token_urlsafe(MADE_UP_BYTES)


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobodys_hash() -> str:
    return _hasher.hash(make_up_password())


def _aside(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `function` where it stops nobody else: argon2 releases the GIL, but a green thread holds up its hub."""
    with _places:
        return aside(function, *args, **kwargs)
