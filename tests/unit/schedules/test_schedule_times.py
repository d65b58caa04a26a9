"""The times of schedules: expressions, zones whose clock changes, intervals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.schedules.times import BadExpression, Cron, Every, check_cron, newest_times, next_times

BERLIN = "Europe/Berlin"
LORD_HOWE = "Australia/Lord_Howe"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def shown(expression: str, zone: str, after: str, count: int) -> list[str]:
    """The next times on the clock of a zone, with the offset from UTC; `after` is on that clock too."""
    moment = datetime.fromisoformat(after)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    times = next_times(Cron(expression, ZoneInfo(zone)), moment, count)
    local = [each.astimezone(ZoneInfo(zone)).isoformat() for each in times]
    return [f"{each[8:10]}. {each[11:16]}{each[19:]}" for each in local]


def test_a_time_of_the_day_that_the_clock_skips_comes_when_the_clock_has_been_put_forward() -> None:
    assert shown("30 2 * * *", BERLIN, "2026-03-28T00:00", 3) == [
        "28. 02:30+01:00",
        "29. 03:00+02:00",
        "30. 02:30+02:00",
    ]
    assert shown("15 2 * * *", LORD_HOWE, "2026-10-03T00:00", 3) == [
        "03. 02:15+10:30",
        "04. 02:30+11:00",
        "05. 02:15+11:00",
    ]


def test_of_several_times_that_the_clock_skips_one_comes() -> None:
    assert shown("0,15,30,45 2,3 * * *", BERLIN, "2026-03-29T00:00", 4) == [
        "29. 03:00+02:00",
        "29. 03:15+02:00",
        "29. 03:30+02:00",
        "29. 03:45+02:00",
    ]


def test_a_time_of_the_day_that_the_clock_shows_twice_comes_the_first_time() -> None:
    assert shown("30 2 * * *", BERLIN, "2026-10-24T12:00", 2) == ["25. 02:30+02:00", "26. 02:30+01:00"]
    assert shown("45 1 * * *", LORD_HOWE, "2026-04-04T12:00", 2) == ["05. 01:45+11:00", "06. 01:45+10:30"]
    # Also when somebody asks between the two.
    assert shown("30 2 * * *", BERLIN, "2026-10-25T02:40+02:00", 1) == ["26. 02:30+01:00"]
    assert shown("30 2 * * *", BERLIN, "2026-10-25T02:10+01:00", 1) == ["26. 02:30+01:00"]


def test_what_goes_on_steadily_is_neither_made_up_for_nor_held_back() -> None:
    assert shown("*/20 * * * *", BERLIN, "2026-03-29T01:30", 3) == [
        "29. 01:40+01:00",
        "29. 03:00+02:00",
        "29. 03:20+02:00",
    ]
    assert shown("*/30 2 * * *", BERLIN, "2026-03-28T12:00", 1) == ["30. 02:00+02:00"]
    assert shown("30 * * * *", BERLIN, "2026-10-25T01:00", 4) == [
        "25. 01:30+02:00",
        "25. 02:30+02:00",
        "25. 02:30+01:00",
        "25. 03:30+01:00",
    ]
    assert shown("@hourly", BERLIN, "2026-10-25T01:30", 3) == ["25. 02:00+02:00", "25. 02:00+01:00", "25. 03:00+01:00"]


def test_a_doubled_half_hour_is_gone_through_twice_in_order() -> None:
    quarters = ["01:30+11:00", "01:45+11:00", "01:30+10:30", "01:45+10:30", "02:00+10:30"]
    assert shown("*/15 * * * *", LORD_HOWE, "2026-04-05T01:20", 5) == [f"05. {each}" for each in quarters]
    # Whoever asks in the first pass hears of the second.
    assert shown("*/15 * * * *", LORD_HOWE, "2026-04-05T01:50+11:00", 2) == ["05. 01:30+10:30", "05. 01:45+10:30"]
    assert shown("30 * * * *", LORD_HOWE, "2026-04-05T01:00", 3) == [
        "05. 01:30+11:00",
        "05. 01:30+10:30",
        "05. 02:30+10:30",
    ]


def test_hours_after_a_change_by_half_an_hour_begin_when_they_begin() -> None:
    assert shown("*/20 5 * * *", LORD_HOWE, "2026-10-04T00:05", 3) == [
        "04. 05:00+11:00",
        "04. 05:20+11:00",
        "04. 05:40+11:00",
    ]


def test_a_day_that_a_zone_skips() -> None:
    assert shown("0 9 * * *", "Pacific/Apia", "2011-12-29T12:00", 2) == ["31. 00:00+14:00", "31. 09:00+14:00"]


def test_a_moment_that_is_a_time_is_not_after_itself() -> None:
    (first,) = next_times(Cron("0 3 * * *", ZoneInfo(BERLIN)), NOON, 1)
    (second,) = next_times(Cron("0 3 * * *", ZoneInfo(BERLIN)), first, 1)
    assert second - first == timedelta(days=1)
    # The end of a gap stands for what the clock skipped, once.
    gap_end = datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert next_times(Cron("30 2 * * *", ZoneInfo(BERLIN)), gap_end, 1) == [datetime(2026, 3, 30, 0, 30, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("shortcut", "expression"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@weekly", "0 0 * * SUN"),
        ("@monthly", "0 0 1 * *"),
        ("@Yearly", "0 0 1 JAN *"),
    ],
)
def test_shortcuts(shortcut: str, expression: str) -> None:
    zone = ZoneInfo("America/New_York")
    assert next_times(Cron(shortcut, zone), NOON, 3) == next_times(Cron(expression, zone), NOON, 3)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "every minute",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
        "@reboot",
        "0 0 31 2 *",
        "0 0 31 4,6 *",
        "0 0 */30 2 TUE#5",
    ],
)
def test_what_is_no_expression_or_never_comes_true(expression: str) -> None:
    with pytest.raises(BadExpression):
        check_cron(expression)


@given(st.text(alphabet="0123456789*/,-#LWMON @", max_size=30) | st.text(max_size=20))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        check_cron(text)
    except BadExpression:
        return
    times = next_times(Cron(text, ZoneInfo(BERLIN)), NOON, 3)
    assert times == sorted(set(times))


FIELDS = st.sampled_from(["*", "*/7", "0", "2", "1-3", "30"])


@given(
    expression=st.tuples(FIELDS, st.sampled_from(["*", "*/2", "1", "2", "1-3"])).map(
        lambda two: f"{' '.join(two)} * * *"
    ),
    zone=st.sampled_from([BERLIN, LORD_HOWE, "America/St_Johns", "Antarctica/Troll", "UTC"]),
    moment=st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)).map(lambda each: each.replace(tzinfo=UTC)),
)
def test_times_are_the_same_from_wherever_one_looks(expression: str, zone: str, moment: datetime) -> None:
    cron = Cron(expression, ZoneInfo(zone))
    times = next_times(cron, moment, 40)
    assert moment < times[0]
    for earlier, later in pairwise(times):
        assert earlier < later
        assert next_times(cron, earlier, 1) == [later]
        assert next_times(cron, later - timedelta(microseconds=1), 1) == [later]


def test_an_interval_counts_from_its_anchor_and_does_not_drift() -> None:
    every = Every(1.1, NOON)
    assert next_times(every, NOON, 2) == [NOON + timedelta(seconds=1.1), NOON + timedelta(seconds=2.2)]
    millionth = NOON + timedelta(seconds=1_100_000)
    assert next_times(every, millionth - timedelta(seconds=0.5), 1) == [millionth]
    assert next_times(every, millionth, 1) == [millionth + timedelta(seconds=1.1)]
    assert next_times(every, NOON - timedelta(days=3), 1) == [NOON + timedelta(seconds=1.1)]


@pytest.mark.parametrize("count", [1, 7, 100])
def test_the_newest_of_many_times(count: int) -> None:
    first = datetime(2020, 1, 1, tzinfo=UTC)
    minutes = newest_times(Cron("* * * * *", ZoneInfo(BERLIN)), first, NOON, count)
    assert minutes == [NOON - timedelta(minutes=each) for each in reversed(range(count))]
    days = newest_times(Cron("0 0 1 1 *", ZoneInfo("UTC")), first, NOON, count)
    assert days == [datetime(year, 1, 1, tzinfo=UTC) for year in range(2020, 2027)][-count:]
    assert newest_times(Every(1, first), NOON, NOON, count) == [NOON]
