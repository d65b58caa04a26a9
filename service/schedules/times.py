"""The times of a schedule: those of a cron expression on the clock of a time zone, or every so many seconds.

What a cron expression means where the clock is put forward or back stands in docs/decisions/0010-schedules.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

SHORTCUTS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
FIELDS = 5
MICROSECOND = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)


class BadExpression(ValueError):
    """The text is no cron expression, or one that never comes true."""


@dataclass(frozen=True)
class Cron:
    """The times of a cron expression of five fields, or a shortcut such as @daily, in a time zone."""

    expression: str
    zone: ZoneInfo

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The times later than a moment, in order, in UTC; they end where none comes for fifty years.

        Raises BadExpression at the first step.
        """
        expression = SHORTCUTS.get(self.expression.strip().lower(), self.expression)
        local = moment.astimezone(self.zone)
        before, after = _offsets(local.replace(tzinfo=None), self.zone)
        # In a doubled hour, what the clock has shown once it will show again.
        walls = _walls(expression, local.replace(tzinfo=None) - max(before - after, timedelta(0)))
        is_fixed = _is_fixed(expression)
        last = moment
        for each in _in_order(_moments(wall, self.zone, is_fixed=is_fixed) for wall in walls):
            if each > last:
                yield each
                last = each


@dataclass(frozen=True)
class Every:
    """Every so many seconds from `anchor`, which is none of the times itself."""

    seconds: float
    anchor: datetime

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The times later than a moment, in order, without end."""
        # Whole microseconds: a sum of fractions would drift, and a time must be the same whoever computes it.
        step = round(self.seconds * 1_000_000)
        number = max((moment - self.anchor) // MICROSECOND // step, 0)
        while True:
            number += 1
            yield self.anchor + number * step * MICROSECOND


Timing = Cron | Every


def timing(*, cron: str | None, interval_seconds: float | None, timezone: str, anchor: datetime) -> Timing:
    """The times of a cron expression or of an interval, whichever is given; raises ZoneInfoNotFoundError."""
    if cron is not None:
        return Cron(cron, ZoneInfo(timezone))
    assert interval_seconds is not None
    return Every(interval_seconds, anchor)


def next_times(timing: Timing, moment: datetime, count: int) -> list[datetime]:
    """The first `count` times after a moment, or as many as there are."""
    return list(islice(timing.after(moment), count))


def newest_times(timing: Timing, first: datetime, until: datetime, count: int) -> list[datetime]:
    """Of the times from `first` to `until`, both included, the newest `count`, in order."""
    # Years of missed minutes are not walked through: a window before the end grows until it holds enough.
    window = timedelta(seconds=count)
    while True:
        since = max(first - MICROSECOND, until - window)
        found = deque(takewhile(lambda each: each <= until, timing.after(since)), maxlen=count)
        if len(found) == count or since < first:
            return list(found)
        window *= 4


def check_cron(expression: str) -> None:
    """Raise BadExpression for a text that is no cron expression, or one that never comes true."""
    if next(Cron(expression, ZoneInfo("UTC")).after(datetime(2000, 1, 1, tzinfo=UTC)), None) is None:
        raise BadExpression("This never comes true.")


def _walls(expression: str, wall: datetime) -> Iterator[datetime]:
    """What a clock without a zone shows when the expression is true, after `wall`."""
    # The package also takes a sixth field, of seconds, and reckons with zones in a way that misses times where the
    # clock changes by half an hour.
    if len(expression.split()) != FIELDS:
        raise BadExpression(f"Must be five fields, or one of {', '.join(SHORTCUTS)}.")
    try:
        return CronSim(expression, wall)
    except CronSimError as error:
        raise BadExpression(f"{error}.") from None


def _is_fixed(expression: str) -> bool:
    """Whether an expression names times of the day; one whose minutes or hours begin with a star goes on steadily."""
    minute, hour, *_ = expression.split()
    return not minute.startswith("*") and not hour.startswith("*")


def _offsets(wall: datetime, zone: ZoneInfo) -> tuple[timedelta, timedelta]:
    """The offsets from UTC before and after the change of the clock that doubles or skips `wall`; else twice the same.

    The first is greater where the clock shows `wall` twice, and smaller where it never does (PEP 495).
    """
    aware = wall.replace(tzinfo=zone)
    before, after = aware.utcoffset(), aware.replace(fold=1).utcoffset()
    assert before is not None
    assert after is not None
    return before, after


def _moments(wall: datetime, zone: ZoneInfo, *, is_fixed: bool) -> list[datetime]:
    """When, in UTC, an expression runs that is true as the clock shows `wall`: once, twice or never."""
    before, after = _offsets(wall, zone)
    aware = wall.replace(tzinfo=zone)
    if before == after or (before > after and is_fixed):
        return [aware.astimezone(UTC)]
    if before > after:
        return [aware.astimezone(UTC), aware.replace(fold=1).astimezone(UTC)]
    return [_end_of_gap(wall, zone)] if is_fixed else []


def _end_of_gap(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first moment after the change that skips `wall`."""
    while True:
        wall += MINUTE
        before, after = _offsets(wall, zone)
        if before >= after:
            return wall.replace(tzinfo=zone).astimezone(UTC)


def _in_order(groups: Iterator[list[datetime]]) -> Iterator[datetime]:
    """The moments of consecutive walls in their order: the second pass of a doubled hour follows the whole first."""
    second_pass: deque[datetime] = deque()
    for first, *again in filter(None, groups):
        while second_pass and second_pass[0] < first:
            yield second_pass.popleft()
        yield first
        second_pass.extend(again)
    yield from second_pass
