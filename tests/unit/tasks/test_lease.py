"""How a body learns that it has to end, and what is done when it does not."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from service.ids import new_id
from service.jobs.errors import JobCancelled, LeaseLost, WorkerStopping
from tasks import lease
from tasks.application import flask_app
from tasks.lease import Attempt, body_of, hear_parent

Until = Callable[..., Any]


@pytest.fixture
def attempt(app: Flask) -> Iterator[Attempt]:
    """An attempt of this process."""
    attempt = Attempt({"id": new_id(), "attempt": 1, "sensitive": False}, grace=1.0)
    lease._attempts["task"] = attempt
    yield attempt
    del lease._attempts["task"]


@pytest.fixture
def parent() -> Iterator[Callable[[], None]]:
    """Has a signal come as from the parent of a pool's process."""
    former = signal.signal(signal.SIGUSR2, hear_parent)
    yield lambda: os.kill(os.getpid(), signal.SIGUSR2)
    signal.signal(signal.SIGUSR2, former)
    lease.stopping.clear()


def test_what_ends_a_body_is_no_exception_that_bodies_catch() -> None:
    assert not any(issubclass(each, Exception) for each in (JobCancelled, LeaseLost, WorkerStopping))


def test_callbacks_are_called_once_and_a_broken_one_stops_no_other(attempt: Attempt, until: Until) -> None:
    called: list[str] = []

    def break_down() -> None:
        called.append("broken")
        raise OSError("no")

    attempt.on_cancel(break_down)
    attempt.on_cancel(lambda: called.append("second"))
    assert called == []
    attempt.condemn(JobCancelled)
    attempt.condemn(LeaseLost)
    until(lambda: len(called) == 2, "both callbacks")
    assert called == ["broken", "second"]
    assert attempt.verdict is JobCancelled


def test_a_callback_that_comes_after_the_cancel_is_called_at_once(attempt: Attempt) -> None:
    attempt.condemn(LeaseLost)
    called: list[str] = []
    attempt.on_cancel(lambda: called.append("late"))
    assert called == ["late"]


def test_a_callback_that_hangs_holds_up_nothing(attempt: Attempt, until: Until) -> None:
    going_on = threading.Event()
    attempt.on_cancel(going_on.wait)
    try:
        attempt.condemn(JobCancelled)
        assert attempt.must_end.is_set()
    finally:
        going_on.set()


def test_callbacks_may_use_the_application(attempt: Attempt, until: Until) -> None:
    names: list[str] = []
    attempt.on_cancel(lambda: names.append(flask_app().name))
    attempt.condemn(JobCancelled)
    until(lambda: names, "the callback")


def test_the_parent_first_says_that_the_worker_stops_and_then_ends_the_body(
    attempt: Attempt, parent: Callable[[], None]
) -> None:
    with body_of(attempt):
        parent()
        assert lease.stopping.is_set()
        with pytest.raises(WorkerStopping):
            parent()
        # While the body cleans up it is not disturbed again.
        parent()


def test_outside_of_a_body_nothing_is_ended(attempt: Attempt, parent: Callable[[], None]) -> None:
    for _ in range(3):
        parent()
    with body_of(attempt):
        pass
    parent()


def test_where_threads_share_a_process_nothing_is_killed(attempt: Attempt) -> None:
    attempt.condemn(LeaseLost)
    with body_of(attempt):
        lease._end_by_force(attempt)
    assert attempt.ends_by == float("inf"), "said once"
