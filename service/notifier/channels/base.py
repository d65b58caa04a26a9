"""What a channel is, and where they are found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol, cast

import service.notifier.channels as room
from service.settings import current_settings

# What came of the planner's statements, by their names.
Planned = Mapping[str, Sequence[Mapping[str, Any]]]


# Whether nobody can mute an event, as SQL over its row; its parameter is one of `parameters`.
IS_CRITICAL = "event.preference = ANY(%(critical_types)s::text[])"


class FollowUp(NamedTuple):
    """(user id, entry) pairs for the event log, and names of the tasks to wake."""

    entries: Sequence[tuple[str, dict[str, Any]]] = ()
    wakes: Sequence[str] = ()


class Channel(Protocol):
    """A module of this folder.

    `PLAN` are data-modifying statements by their names over the rows of `event` (see `service.notifier.dispatch`) and
    over those of each other, with the parameter of `IS_CRITICAL` and those that `parameters` gives, if there is such a
    function; they have to return rows, which are handed to `after_commit` by the same names once they stand. `ONLY`,
    where it is there, are the notifications that the channel plans for: the statements of all others are spared it.
    """

    PLAN: Mapping[str, str]

    def after_commit(self, planned: Planned) -> FollowUp:
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


def plans(notification: str | None = None) -> dict[str, str]:
    """The statements of all channels by their names, for an event that becomes this notification or any other."""
    return {name: sql for channel in _planning(notification) for name, sql in channel.PLAN.items()}


def parameters(notification: str | None = None) -> dict[str, Any]:
    """The parameters of these statements."""
    given: dict[str, Any] = {"critical_types": list(current_settings().critical_notification_types)}
    for channel in _planning(notification):
        if (of_channel := getattr(channel, "parameters", None)) is not None:
            given |= of_channel()
    return given


def _planning(notification: str | None) -> list[Channel]:
    each = ((channel, getattr(channel, "ONLY", None)) for channel in channels().values())
    return [channel for channel, only in each if only is None or notification in only]


def follow_ups(planned: Planned) -> FollowUp:
    """What follows, by all channels, now that the rows stand."""
    each = [channel.after_commit(planned) for channel in channels().values()]
    return FollowUp(
        [entry for follow_up in each for entry in follow_up.entries],
        [wake for follow_up in each for wake in follow_up.wakes],
    )
