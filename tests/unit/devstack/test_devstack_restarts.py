"""A process that keeps dying is started again ever later, and in the end no more."""

from __future__ import annotations

from devstack.restarts import LIMIT, STEADY_SECONDS, Restarts


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def restart(restarts: Restarts, clock: Clock) -> float | None:
    pause = restarts.plan()
    if pause is not None:
        clock.now += pause
        assert restarts.is_due
        restarts.made()
    return pause


def test_pauses_double_and_end() -> None:
    clock = Clock()
    restarts = Restarts(clock)
    assert [restart(restarts, clock) for _ in range(LIMIT + 1)] == [1, 2, 4, 8, 16, None]


def test_a_steady_run_forgets_earlier_deaths() -> None:
    clock = Clock()
    restarts = Restarts(clock)
    for _ in range(LIMIT):
        restart(restarts, clock)
    clock.now += STEADY_SECONDS
    assert restart(restarts, clock) == 1


def test_a_planned_restart_waits_for_its_pause() -> None:
    clock = Clock()
    restarts = Restarts(clock)
    assert not restarts.is_planned
    restarts.plan()
    assert restarts.is_planned
    assert not restarts.is_due
    clock.now += 1
    assert restarts.is_due
