"""How a worker ends: running jobs may finish for a while, then they are handed back.

On SIGTERM Celery takes no new jobs and waits for the running ones, for as long as they take. Here its parent process
tells the children of its pool by SIGUSR2: first that the worker stops (`ctx.stopping`); once SHUTDOWN_GRACE_SECONDS are
over, that a running body must end, and WorkerStopping is raised in it, so that its `finally` blocks run. What has not
ended 5 s later the parent hands back itself and kills. The other pools have no children, and only tell their jobs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterable
from typing import Any

import billiard.pool
import structlog
from celery.concurrency.prefork import TaskPool
from celery.worker import state

from service.jobs.lifecycle import hand_back_job
from service.jobs.registry import find_job_type
from service.queue import job_and_attempt
from service.settings import current_settings
from tasks.application import in_application
from tasks.lease import hear_parent, stopping

log = structlog.get_logger(__name__)

# The parent tells it so often: a child may be born late, and two signals become one where a process cannot listen.
TELL_SECONDS = 0.5
# What was told to end is killed this much later.
LAST_SECONDS = 5.0
# A child waits so long, in tenths of a second, for its parent to take note of what it did. By the time it ends the
# parent may not listen any more, and SQL has it all.
UNHEARD_TENTHS = 10


class _Farewell:
    """What a worker's parent process does from the moment that it takes no more jobs."""

    def __init__(self, worker: str, pool: TaskPool) -> None:
        self._worker = worker
        self._pool = pool
        self._began = time.monotonic()
        self._told: set[int] = set()
        self._task_ids: set[str] = set()
        self._note_jobs()

    def begin(self) -> None:
        """Go on in a thread, for as long as the process lives; Celery ends it when nothing runs any more."""
        threading.Thread(target=self._see_out, name="stopping", daemon=True).start()

    def _note_jobs(self) -> None:
        # Celery's main thread changes the dictionary meanwhile; a list of it is made in one step. What a child has
        # begun just now Celery forgets at once, so what was only sent to the children is noted too.
        self._task_ids |= {each.id for each in list(state.requests.values()) if find_job_type(each.type)}

    def _see_out(self) -> None:
        with in_application():
            grace = current_settings().shutdown_grace_seconds
        log.info("worker_stops", jobs=len(self._task_ids), grace=grace)
        while True:
            self._note_jobs()
            elapsed = time.monotonic() - self._began
            children = self._children()
            if elapsed >= grace + LAST_SECONDS:
                self._hand_back()
                _send(signal.SIGKILL, children)
            else:
                _send(signal.SIGUSR2, children if elapsed >= grace else set(children) - self._told)
            self._told.update(children)
            time.sleep(TELL_SECONDS)

    def _children(self) -> list[int]:
        # One that has been waited for is not ours any more, and its number may be another's.
        processes = getattr(self._pool._pool, "_pool", ())
        return [each.pid for each in list(processes) if each._popen and each._popen.returncode is None]

    def _hand_back(self) -> None:
        # Before the kill, after which Celery takes the jobs for lost with their worker.
        while self._task_ids:
            job_id, attempt = job_and_attempt(self._task_ids.pop())
            try:
                with in_application():
                    hand_back_job(job_id, attempt, self._worker)
            except Exception:
                # Its lease runs out, and it is rescued.
                log.exception("job_not_handed_back", job_id=str(job_id), attempt=attempt)


def _send(number: signal.Signals, pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


_pool: Any = None
_farewell: _Farewell | None = None


def turn_deaf() -> None:
    """Have a parent process ignore what it will tell its children; they inherit that until they listen."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def listen_to_parent() -> None:
    """Have a child of a pool hear what its parent tells it; for its main thread."""
    signal.signal(signal.SIGUSR2, hear_parent)
    billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = UNHEARD_TENTHS


def know_pool(pool: object) -> None:
    """Remember the pool of this worker: when it stops nobody tells."""
    global _pool  # noqa: PLW0603 - one worker a process
    _pool = pool


def stop(worker: str) -> None:
    """The worker of this name takes no more jobs: see its running ones out. Saying so twice is saying it once.

    It is said by a signal handler, so this only begins.
    """
    global _farewell  # noqa: PLW0603 - one worker a process
    stopping.set()
    if _farewell is None and isinstance(_pool, TaskPool):
        _farewell = _Farewell(worker, _pool)
        _farewell.begin()
