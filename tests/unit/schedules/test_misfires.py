"""Which of the times that have come are run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from service.schedules.misfires import ALL, ONCE, SKIP, due_runs
from service.schedules.times import Cron, Every

START = datetime(2026, 5, 4, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOURLY = Cron("0 * * * *", ZoneInfo("UTC"))
EVERY_SECOND = Every(1, START)


def hours(policy: str, first: int, until: timedelta, limit: int = 10) -> list[int]:
    """The hours after the start that are run, of those from `first`, at a moment after the start."""
    runs = due_runs(HOURLY, START + timedelta(hours=first), START + until, policy=policy, limit=limit)
    return [(each - START) // timedelta(hours=1) for each in runs]


def seconds(policy: str, until: float, limit: int = 10) -> list[int]:
    """The seconds after the start that are run, of those from the first."""
    runs = due_runs(EVERY_SECOND, START + SECOND, START + timedelta(seconds=until), policy=policy, limit=limit)
    return [(each - START) // SECOND for each in runs]


@pytest.mark.parametrize("policy", [SKIP, ONCE, ALL])
def test_a_time_is_run_within_a_minute_whatever_the_policy(policy: str) -> None:
    assert hours(policy, 1, timedelta(hours=1)) == [1]
    assert hours(policy, 1, timedelta(hours=1, seconds=60)) == [1]


def test_later_it_is_missed() -> None:
    late = timedelta(hours=1, seconds=61)
    assert [hours(policy, 1, late) for policy in (SKIP, ONCE, ALL)] == [[], [1], [1]]


@pytest.mark.parametrize("policy", [SKIP, ONCE, ALL])
def test_a_tick_that_is_a_little_late_costs_no_second(policy: str) -> None:
    assert seconds(policy, 2.9) == [1, 2]
    assert seconds(policy, 4) == [1, 2, 3, 4]


def test_seconds_that_were_missed() -> None:
    assert seconds(SKIP, 20) == [17, 18, 19, 20]
    assert seconds(ONCE, 20) == [17, 18, 19, 20]
    assert seconds(ALL, 20) == [*range(7, 17), 17, 18, 19, 20]
    assert seconds(ALL, 20, limit=2) == [15, 16, 17, 18, 19, 20]
    assert seconds(ALL, 8) == list(range(1, 9))


def test_hours_that_were_missed() -> None:
    away = timedelta(hours=7, minutes=30)
    assert hours(SKIP, 3, away) == []
    assert hours(ONCE, 3, away) == [7]
    assert hours(ALL, 3, away) == [3, 4, 5, 6, 7]
    assert hours(ALL, 3, away, limit=2) == [6, 7]


def test_a_time_that_has_just_come_stands_for_those_before_it() -> None:
    assert hours(ONCE, 3, timedelta(hours=7, seconds=10)) == [7]
    assert hours(SKIP, 3, timedelta(hours=7, seconds=10)) == [7]
    assert hours(ALL, 3, timedelta(hours=7, seconds=10), limit=2) == [5, 6, 7]


def test_ten_years_of_missed_seconds_are_not_walked_through() -> None:
    now = START + timedelta(days=3650)
    assert len(due_runs(EVERY_SECOND, START + SECOND, now, policy=ALL, limit=100)) == 104
