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
    where it is there, are the notifications that the channel plans for, and `is_on` whether it plans anything at all:
    the other statements are spared it.
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


def planning(notification: str | None = None) -> tuple[str, ...]:
    """The names of the channels that plan for an event, as the settings have it: one that becomes this notification."""
    return tuple(name for name, channel in channels().items() if _plans(channel, notification))


def _plans(channel: Channel, notification: str | None) -> bool:
    only = getattr(channel, "ONLY", None)
    is_on = getattr(channel, "is_on", None)
    return (only is None or notification in only) and (is_on is None or is_on())


def plans(planning: Sequence[str]) -> dict[str, str]:
    """The statements of some channels by their names."""
    return {name: sql for channel in planning for name, sql in channels()[channel].PLAN.items()}


def parameters(planning: Sequence[str]) -> dict[str, Any]:
    """The parameters of these statements."""
    given: dict[str, Any] = {"critical_types": list(current_settings().critical_notification_types)}
    for channel in planning:
        if (of_channel := getattr(channels()[channel], "parameters", None)) is not None:
            given |= of_channel()
    return given


def follow_ups(planned: Planned) -> FollowUp:
    """What follows, by all channels, now that the rows stand."""
    each = [channel.after_commit(planned) for channel in channels().values()]
    return FollowUp(
        [entry for follow_up in each for entry in follow_up.entries],
        [wake for follow_up in each for wake in follow_up.wakes],
    )
