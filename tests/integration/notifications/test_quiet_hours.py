"""Quiet hours: by the clock of the user's zone, over nights and changes of the clocks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from service.database import db
from tests.conftest import MakeUser

QUIET = "/api/notifications/quiet-hours"
# Whole and half hours, both hemispheres, changes at midnight, of half an hour, and none at all.
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/Havana",
    "Pacific/Chatham",
]


@pytest.fixture(scope="module")
def connection(app: Flask) -> Iterator[Connection]:
    with app.app_context(), db.engine.connect() as opened:
        yield opened


def quiet_until(connection: Connection, at: datetime, zone: str, start: str, end: str) -> datetime | None:
    """The end of the quiet hours as the database knows it."""
    query = text(
        "SELECT quiet_until(:at, :zone, jsonb_build_object('start', CAST(:s AS text), 'end', CAST(:e AS text)))"
    )
    found: datetime | None = connection.scalar(query, {"at": at, "zone": zone, "s": start, "e": end})
    return found


def expected(at: datetime, zone: str, start: time, end: time) -> datetime | None:
    """The same by Python's clock."""
    local = at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    over_night = start >= end
    if not (start <= local.time() < end if not over_night else local.time() >= start or local.time() < end):
        return None
    day = local.date() + timedelta(days=1 if over_night and local.time() >= start else 0)
    ends = datetime.combine(day, end, ZoneInfo(zone))
    later = ends.replace(fold=1)
    # Of two such times a night the later one; of none, the one that a clock would show that was not changed.
    return max(ends.astimezone(UTC), later.astimezone(UTC))


CLOCK = st.times().map(lambda each: each.replace(minute=each.minute // 15 * 15, second=0, microsecond=0, fold=0))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.datetimes(datetime(2024, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC)),
    zone=st.sampled_from(ZONES),
    start=CLOCK,
    end=CLOCK,
)
# Berlin: the night without a 02:30, and the one with two.
@example(at=datetime(2026, 3, 29, 0, 45, tzinfo=UTC), zone="Europe/Berlin", start=time(22), end=time(2, 30))
@example(at=datetime(2026, 10, 25, 0, 10, tzinfo=UTC), zone="Europe/Berlin", start=time(22), end=time(2, 30))
@example(at=datetime(2026, 10, 25, 1, 10, tzinfo=UTC), zone="Europe/Berlin", start=time(22), end=time(2, 30))
@example(at=datetime(2026, 3, 8, 4, 30, tzinfo=UTC), zone="America/Havana", start=time(20), end=time(0))
def test_quiet_hours_end_when_the_clock_on_the_wall_says_so(
    connection: Connection, at: datetime, zone: str, start: time, end: time
) -> None:
    found = quiet_until(connection, at, zone, f"{start:%H:%M}", f"{end:%H:%M}")
    assert found == expected(at, zone, start, end)
    if found is not None:
        assert at < found <= at + timedelta(hours=25)


def test_a_zone_that_only_the_application_knows_counts_as_utc(connection: Connection) -> None:
    at = datetime(2026, 6, 1, 23, tzinfo=UTC)
    assert quiet_until(connection, at, "Mars/Olympus", "22:00", "07:00") == datetime(2026, 6, 2, 7, tzinfo=UTC)
    connection.rollback()


def test_quiet_hours_are_set_and_taken_away(client: FlaskClient, make_user: MakeUser) -> None:
    user, other = make_user(), make_user()
    none = {"start": None, "end": None, "timezone": "UTC"}
    hours = {"start": "22:00", "end": "07:00"}
    assert client.get(QUIET, headers=user.headers).get_json() == none
    assert client.put(QUIET, json=hours, headers=user.headers).get_json() == {**hours, "timezone": "UTC"}
    client.patch("/api/auth/me", json={"timezone": "Europe/Berlin"}, headers=user.headers)
    assert client.get(QUIET, headers=user.headers).get_json() == {**hours, "timezone": "Europe/Berlin"}
    assert client.get(QUIET, headers=other.headers).get_json() == none
    headers = {**user.headers, "Content-Type": "application/json"}
    assert client.put(QUIET, data="null", headers=headers).get_json()["start"] is None
    for wrong in (
        {"start": "25:00", "end": "07:00"},
        {"start": "22:00"},
        {"start": "22:00", "end": None},
        {"start": "7", "end": "8"},
        [],
    ):
        assert client.put(QUIET, json=wrong, headers=user.headers).status_code == 422, wrong
    assert client.put(QUIET, json={"start": None, "end": None}, headers=user.headers).status_code == 200
