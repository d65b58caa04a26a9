"""What a channel is, and where they are found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Protocol, cast

import service.notifier.channels as room


class Channel(Protocol):
    """A module of this folder.

    `PLAN` is a data-modifying statement over the rows of `event` (see `service.notifier.dispatch`), without
    parameters of its own; it has to return rows, which are handed to `after_commit` once they stand.
    """

    PLAN: str

    def after_commit(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[tuple[str, dict[str, Any]]]:
        """Wake what must be woken; returns (user id, entry) pairs for the event log."""
        ...


@cache
def channels() -> Mapping[str, Channel]:
    """Every channel by the name of its file."""
    return {
        module.name: cast(Channel, importlib.import_module(f"{room.__name__}.{module.name}"))
        for module in pkgutil.iter_modules(room.__path__)
        if module.name != "base"
    }
