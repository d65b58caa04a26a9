"""Work that would hold up an event loop, done beside it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def aside(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What `function` returns, called in a real thread where eventlet has patched the process, else right here."""
    # A process that eventlet has patched has imported it; the others need not.
    if "eventlet" in sys.modules:
        from eventlet import patcher, tpool

        if patcher.is_monkey_patched("thread"):
            result: R = tpool.execute(function, *args, **kwargs)
            return result
    return function(*args, **kwargs)
