"""What a channel is, and where they are found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol, cast

import service.notifier.channels as room


class FollowUp(NamedTuple):
    """(user id, entry) pairs for the event log, and names of the tasks to wake."""

    entries: Sequence[tuple[str, dict[str, Any]]] = ()
    wakes: Sequence[str] = ()


class Channel(Protocol):
    """A module of this folder.

    `PLAN` is a data-modifying statement over the rows of `event` (see `service.notifier.dispatch`), without
    parameters of its own; it has to return rows, which are handed to `after_commit` once they stand.
    """

    PLAN: str

    def after_commit(self, rows: Sequence[Mapping[str, Any]]) -> FollowUp:
        """What follows now that the rows stand."""
        ...


@cache
def channels() -> Mapping[str, Channel]:
    """Every channel by the name of its file."""
    return {
        module.name: cast(Channel, importlib.import_module(f"{room.__name__}.{module.name}"))
        for module in pkgutil.iter_modules(room.__path__)
        if module.name != "base"
    }
