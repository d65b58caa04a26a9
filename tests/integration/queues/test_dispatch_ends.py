"""The end of the worker that dispatches: the task does not outlive it, however many jobs come."""

from __future__ import annotations

import threading

import pytest

from service.queue import DISPATCH_TASK
from service.redis_client import redis
from tasks.lease import stopping

pytestmark = pytest.mark.usefixtures("in_app")


def test_a_dispatch_that_is_rung_for_all_the_time_ends_with_its_worker() -> None:
    # Not above: pytest looks into what a module has, and a task looked into makes Celery read its settings too early.
    from tasks.dispatch import dispatch_jobs

    task = threading.Thread(target=dispatch_jobs)
    task.start()
    try:
        for _ in range(20):
            redis().rpush(f"carillon:bell:{DISPATCH_TASK}", 1)
            task.join(0.05)
        assert task.is_alive()
        stopping.set()
        for _ in range(100):
            redis().rpush(f"carillon:bell:{DISPATCH_TASK}", 1)
            task.join(0.05)
        assert not task.is_alive()
        assert not redis().exists(f"carillon:awake:{DISPATCH_TASK}"), "the next worker's task is sent a message"
    finally:
        stopping.clear()
        task.join()
        redis().delete(f"carillon:bell:{DISPATCH_TASK}")
