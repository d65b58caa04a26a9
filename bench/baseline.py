"""One round of bare Celery: the tasks are queued, then the worker starts."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import redis

from bench.bare import STEPS, task_ids
from bench.cpu import Meter, Usage
from bench.platform import Platform

POLL_SECONDS = 0.1


@dataclass(frozen=True)
class BareRound:
    """A round of bare Celery."""

    tasks: int
    completed: int
    # From the first start to the last end, by the tasks' own clocks.
    seconds: float
    queue_seconds: float
    usage: Usage

    @property
    def rate(self) -> float:
        """Tasks a second."""
        return self.completed / self.seconds if self.seconds else 0.0


def run_bare(platform: Platform, tasks: int, timeout: float) -> BareRound:
    """Queue tasks, start the worker, wait for the last result."""
    assert platform.stack.redis
    with redis.Redis.from_url(platform.stack.redis.url_of(1)) as client:
        client.flushdb()
        queue_seconds = platform.queue_bare_tasks(tasks)
        worker = platform.start_bare_worker()
        idle = {name: group for name, group in platform.groups.items() if not name.startswith("worker")}
        meter = Meter({**idle, "worker, parent": (worker.pid, "itself"), "worker, children": (worker.pid, "below")})
        try:
            _wait_for_start(client, tasks, timeout)
            with meter.measure() as usage:
                results = _results(client, tasks, timeout)
        finally:
            worker.stop()
            client.flushdb()
    seconds = max(r["ended"] for r in results) - min(r["began"] for r in results) if results else 0.0
    assert all(result["steps"] == STEPS for result in results)
    return BareRound(tasks, len(results), seconds, queue_seconds, usage)


def _wait_for_start(client: redis.Redis, tasks: int, timeout: float) -> None:
    """The start of the processes themselves is not what is compared."""
    ends = time.monotonic() + timeout
    while client.llen("celery") == tasks and time.monotonic() < ends:
        time.sleep(0.005)


def _results(client: redis.Redis, tasks: int, timeout: float) -> list[dict[str, float]]:
    ends = time.monotonic() + timeout
    keys = [f"celery-task-meta-{task_id}" for task_id in task_ids(tasks)]
    while client.llen("celery") and time.monotonic() < ends:
        time.sleep(POLL_SECONDS)
    while True:
        metas = [json.loads(text) for text in client.mget(keys) if text is not None]
        results = [meta["result"] for meta in metas if meta["status"] == "SUCCESS"]
        if len(results) == tasks or time.monotonic() > ends:
            return results
        time.sleep(POLL_SECONDS / 5)
