"""Schedules with real processes: they fire each second, and once, whoever is killed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from devstack import programs
from tests.acceptance.platform import Person, Platform
from tests.acceptance.waiting import until

pytestmark = pytest.mark.xdist_group("faults")

SECOND = timedelta(seconds=1)
# Celery takes a while to start where much else goes on.
RESTART_SECONDS = 60.0

MakeSchedule = Callable[..., str]


@pytest.fixture
def make_schedule(person: Person) -> Iterator[MakeSchedule]:
    """Makes schedules of every second, which end with the test; gives their ids."""
    made: list[str] = []

    def make(name: str, **fields: Any) -> str:
        body = {
            "name": name,
            "type": "demo-steps",
            "payload": {"steps": 1},
            "intervalSeconds": 1,
            "overlapPolicy": "allow",
            # However slow the machine is, no time is left out.
            "misfirePolicy": "all",
            "misfireLimit": 100,
            **fields,
        }
        made.append(person.ask("POST", "/api/schedules", body, 201)["id"])
        return made[-1]

    yield make
    for schedule_id in made:
        person.ask("DELETE", f"/api/schedules/{schedule_id}", status=204)


def fire_times(platform: Platform, schedule_id: str) -> list[datetime]:
    """The times that led to jobs, in order."""
    rows = platform.records.rows(
        "SELECT fire_time FROM schedule_runs WHERE schedule_id = %s AND job_id IS NOT NULL ORDER BY fire_time",
        schedule_id,
    )
    return [row["fire_time"] for row in rows]


def await_times(platform: Platform, schedule_id: str, after: datetime, count: int = 3) -> None:
    """Wait until so many times after a moment have led to jobs."""
    until(
        lambda: sum(each > after for each in fire_times(platform, schedule_id)) >= count,
        lambda: f"{count} runs after {after}; there are {fire_times(platform, schedule_id)}",
        RESTART_SECONDS,
    )


def holes(times: list[datetime]) -> list[tuple[datetime, datetime]]:
    """Where more than a second passed between two times."""
    return [(earlier, later) for earlier, later in pairwise(times) if later - earlier > SECOND]


def assert_each_ran_once(platform: Platform, person: Person, schedule_id: str) -> list[datetime]:
    """Every time that was run has one job, which completed; the times."""
    __tracebackhide__ = True
    person.ask("POST", f"/api/schedules/{schedule_id}/pause")
    times = fire_times(platform, schedule_id)
    assert len(set(times)) == len(times)

    def statuses() -> list[str]:
        rows = platform.records.rows("SELECT status FROM jobs WHERE schedule_id = %s", schedule_id)
        return [row["status"] for row in rows]

    until(
        lambda: statuses() == ["completed"] * len(times),
        lambda: f"{len(times)} completed jobs, not {statuses()}",
        RESTART_SECONDS,
    )
    return times


def now() -> datetime:
    return datetime.now(UTC)


def test_a_schedule_of_every_second_fires_every_second(
    platform: Platform, person: Person, make_schedule: MakeSchedule
) -> None:
    begins = now()
    schedule_id = make_schedule("each second")
    await_times(platform, schedule_id, begins, 5)
    times = assert_each_ran_once(platform, person, schedule_id)
    assert holes(times) == []
    created = datetime.fromisoformat(person.get(f"/api/schedules/{schedule_id}")["createdAt"])
    assert abs(times[0] - created - SECOND) < timedelta(milliseconds=1)
    listed = person.get(f"/api/jobs?scheduleId={schedule_id}&limit=100")["data"]
    assert len(listed) == len(times)
    assert {job["name"] for job in listed} == {"each second"}


def test_two_beats_submit_nothing_twice(platform: Platform, person: Person, make_schedule: MakeSchedule) -> None:
    second = platform.stack.add(
        replace(programs.beat(platform.stack.settings.var_folder / "third-beat", "third-beat"), essential=False)
    )
    beat = platform.stack.process("beat")
    try:
        schedules = [make_schedule(f"number {number}") for number in range(3)]
        # Each is seen to tick alone before they tick together.
        beat.kill()
        await_times(platform, schedules[0], now() + 3 * SECOND, 1)
        beat.start()
        second.send_to_group(signal.SIGSTOP)
        await_times(platform, schedules[0], now() + 3 * SECOND, 1)
        second.send_to_group(signal.SIGCONT)
        for schedule_id in schedules:
            await_times(platform, schedule_id, now(), 5)
        assert second.running
    finally:
        second.stop()
    for schedule_id in schedules:
        assert holes(assert_each_ran_once(platform, person, schedule_id)) == []


def test_what_a_killed_beat_missed_is_made_good_as_the_policy_says(
    platform: Platform, person: Person, make_schedule: MakeSchedule
) -> None:
    begins = now()
    schedules = {policy: make_schedule(policy, misfirePolicy=policy) for policy in ("skip", "all")}
    for schedule_id in schedules.values():
        await_times(platform, schedule_id, begins, 2)
    beat = platform.stack.process("beat")
    beat.kill()
    killed_at = now()
    until(lambda: now() > killed_at + timedelta(seconds=8), "eight seconds without a tick")
    beat.start()
    back_at = now()
    for schedule_id in schedules.values():
        await_times(platform, schedule_id, back_at, 3)
    assert holes(assert_each_ran_once(platform, person, schedules["all"])) == []
    skipped = holes(assert_each_ran_once(platform, person, schedules["skip"]))
    assert max(later - earlier for earlier, later in skipped) > timedelta(seconds=4)


def test_killed_ticks_leave_no_run_out_and_submit_none_twice(
    platform: Platform, person: Person, make_schedule: MakeSchedule
) -> None:
    schedules = [make_schedule(f"number {number}") for number in range(3)]
    delivery = platform.stack.process("delivery")
    for _ in range(2):
        begins = now()
        await_times(platform, schedules[0], begins, 1)
        # It runs the ticks: perhaps one is under way.
        delivery.kill()
        delivery.start()
    begins = now()
    for schedule_id in schedules:
        await_times(platform, schedule_id, begins, 2)
    for schedule_id in schedules:
        assert holes(assert_each_ran_once(platform, person, schedule_id)) == []
