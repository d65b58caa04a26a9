"""Workers that a test starts, stops and looks into."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Self

from devstack import programs
from devstack.guard import is_alive
from devstack.processes import Process
from tests.acceptance.platform import Platform
from tests.acceptance.waiting import until

_numbers = itertools.count(1)


class Workers:
    """Workers of one test; the platform's own is stopped for its time."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._started: list[Process] = []

    def __enter__(self) -> Self:
        self._platform.stack.process("worker").stop()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()

    def start(self, concurrency: int = 1, **environment: str) -> Process:
        """One more worker with these settings, once it is ready."""
        name = f"worker-of-a-test-{next(_numbers)}"
        program = programs.worker(concurrency, name, name)
        process = self._platform.stack.add(
            replace(program, environment={**program.environment, **environment}, essential=False)
        )
        self._started.append(process)
        until(lambda: len(self.children(process)) == concurrency, f"the children of {name}", 30)
        return process

    def of(self, job_id: str) -> Process:
        """The worker that runs a job, or ran it last."""
        node = self._platform.records.job(job_id)["worker"].partition("@")[0]
        return self._platform.stack.process(node)

    def children(self, worker: Process) -> set[int]:
        """Ids of the living processes of a worker's pool."""
        return {child.pid for child in worker.descendants() if is_alive(child.pid)}

    def log_of(self, job_id: str) -> list[tuple[int, str, str]]:
        """What a job wrote: attempt, level and text of each line."""
        rows = self._platform.records.rows(
            "SELECT attempt, level, message FROM job_logs WHERE job_id = %s ORDER BY created_at", job_id
        )
        return [(row["attempt"], row["level"], row["message"]) for row in rows]
