"""Bare Celery: what a worker does without Carillon around it.

Prefork, results on, JSON, the same broker, otherwise Celery's defaults. The task reports as often as the job does.
`python -m bench.bare COUNT` queues that many tasks and prints how long it took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from celery import Celery, Task

STEPS = 5


def database_url() -> str:
    """The Redis of the platform, another of its numbered databases."""
    return os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0").removesuffix("/0") + "/1"


app = Celery("bare")
app.conf.broker_url = app.conf.result_backend = database_url()
app.conf.task_serializer = app.conf.result_serializer = "json"
app.conf.accept_content = ["json"]


def task_ids(count: int) -> list[str]:
    """The ids of a round's tasks."""
    return [f"bare-{number}" for number in range(count)]


@app.task(bind=True, name="bench.steps")  # type: ignore[untyped-decorator]  # Celery publishes no types
def steps(self: Task, count: int) -> dict[str, Any]:
    """Counts to `count` with a progress report at each step; tells when it began and ended."""
    began = time.time()
    for step in range(1, count + 1):
        progress = {
            "current": step,
            "total": count,
            "percentage": step * 100 // count,
            "message": f"Step {step} of {count}",
        }
        self.update_state(state="PROGRESS", meta=progress)
    return {"steps": count, "began": began, "ended": time.time()}


def main(count: int) -> None:
    """Queue tasks."""
    began = time.perf_counter()
    with app.producer_or_acquire() as producer:
        for task_id in task_ids(count):
            steps.apply_async((STEPS,), task_id=task_id, producer=producer)
    print(json.dumps({"seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    # Imported under the name the worker knows it by, or the task would have another one.
    from bench.bare import main as queue_tasks

    queue_tasks(int(sys.argv[1]))
