"""Waiting for what must come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")

_POLL_SECONDS = 0.02


def until(condition: Callable[[], T], what: str | Callable[[], str], seconds: float = 20.0) -> T:
    """The first true value of `condition`; fails when there is none within the time, saying `what` is missing."""
    __tracebackhide__ = True
    ends = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > ends:
            pytest.fail(f"not within {seconds:g} s: {what() if callable(what) else what}")
        time.sleep(_POLL_SECONDS)
    return value
