"""The attempts this process runs, and the thread that looks after them.

It sends the progress that was held back, and it holds on to the jobs: a job is held by a lease of 30 s in SQL. The
thread renews it every 10 s, and looks every 2 s whether somebody asked to cancel the job or gave it to another worker.
A process that dies stops renewing, and the job is rescued. A result that is not in SQL at once goes to Celery's result
backend, where the rescue finds it should the process die before the database answers.

A body that has not ended some time after that is ended by force: a process of a pool is killed. Where threads share a
process there is no such means, and the thread only says so.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

import structlog
from billiard import current_process
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.events import JobRow
from service.jobs.errors import JobCancelled, JobMustEnd, LeaseLost, WorkerStopping
from service.jobs.lifecycle import read_attempt, renew_lease, stop_job
from tasks.application import in_application
from tasks.progress import INTERVAL_SECONDS, Reporter

log = structlog.get_logger(__name__)

TICK_SECONDS = INTERVAL_SECONDS
LOOK_SECONDS = 2.0
RENEW_SECONDS = 10.0
# Longer than a restart of PostgreSQL; after that the rescue finds what could not be written.
WRITE_SECONDS = 120.0
LONGEST_PAUSE_SECONDS = 2.0

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)

T = TypeVar("T")


@dataclass
class Attempt:
    """An attempt of a job in this process."""

    row: JobRow
    # Seconds that the body has once it must end.
    grace: float
    progress: Mapping[str, Any] | None = None
    reporter: Reporter | None = None
    # Keeps a last line for the job's owner, and the lines that wait to be kept.
    last_words: Callable[[str], None] | None = None
    # Keeps the lines so far.
    keep_lines: Callable[[], None] | None = None
    # Leaves the result of a body that has ended where a rescue finds it.
    keep_result: Callable[[], object] | None = None
    in_body: bool = False
    # JobCancelled or LeaseLost, once that is known.
    verdict: type[JobMustEnd] | None = None
    must_end: threading.Event = field(default_factory=threading.Event)
    ends_by: float = float("inf")
    looked_at: float = field(default_factory=time.monotonic)
    renewed_at: float = field(default_factory=time.monotonic)
    _callbacks: deque[Callable[[], object]] = field(default_factory=deque)

    @property
    def job_id(self) -> str:
        """The id of the job."""
        return str(self.row["id"])

    @property
    def number(self) -> int:
        """Which attempt of the job this is, from 1; with the id the fence of its writes."""
        return int(self.row["attempt"])

    @property
    def owner(self) -> str:
        """The id of the user whose job it is."""
        return str(self.row["user_id"])

    @property
    def is_sensitive(self) -> bool:
        """Whether payload, result and log are sealed."""
        return bool(self.row["sensitive"])

    def condemn(self, verdict: type[JobMustEnd]) -> None:
        """Have the body end: its context raises `verdict` from now on, and its callbacks are called."""
        if self.verdict is None:
            self.verdict = verdict
            self.ends_by = time.monotonic() + self.grace
            self.must_end.set()
            log.info("body_must_end", job_id=self.job_id, attempt=self.number, reason=verdict.__name__)
            # In a thread of their own: one that hangs must keep neither the lease from being renewed nor the kill.
            threading.Thread(target=self._call_back, name="on-cancel", daemon=True).start()

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Have `callback` called once when the body must end; at once if that is known already."""
        self._callbacks.append(callback)
        if self.must_end.is_set():
            self._call_back()

    def _call_back(self) -> None:
        while True:
            try:
                # Whoever takes one calls it: the thread that was started, or the body that came too late with it.
                callback = self._callbacks.popleft()
            except IndexError:
                return
            try:
                with in_application():
                    callback()
            except Exception as error:
                # In the words of a sensitive job's callback may be its data.
                kind = type(error).__name__
                log.error("cancel_callback_failed", job_id=self.job_id, error=kind, exc_info=not self.is_sensitive)


_attempts: dict[str, Attempt] = {}
# Held while a body is ended by force, and to leave one: the process that is killed has nothing else in hand.
_leaving = threading.Lock()
# Set when this worker takes no more jobs and will soon end.
stopping = threading.Event()
_thread: threading.Thread | None = None
_wanted = threading.Event()


def hold(task_id: str, row: JobRow, grace: float) -> None:
    """Hold on to a claimed attempt until `forget`; `grace`: seconds its body has once it must end."""
    global _thread  # noqa: PLW0603 - one thread a process
    _attempts[task_id] = Attempt(row, grace)
    if _thread is None or not _thread.is_alive():
        _thread = threading.Thread(target=_attend, name="lease", daemon=True)
        _thread.start()
    _wanted.set()


def attempt_of(task_id: str) -> Attempt | None:
    """The attempt that was claimed for a task."""
    return _attempts.get(task_id)


def forget(task_id: str) -> None:
    """The end of an attempt is written: it needs no lease any more."""
    _attempts.pop(task_id, None)


@contextmanager
def body_of(attempt: Attempt) -> Iterator[None]:
    """Run a body inside this: only there it may be ended by force."""
    attempt.in_body = True
    try:
        yield
    finally:
        with _leaving:
            attempt.in_body = False


def hear_parent(*_: object) -> None:
    """What the parent of a pool's process says by SIGUSR2: at first that the worker stops, then that the body must end.

    Raises WorkerStopping where the body is.
    """
    if not stopping.is_set():
        stopping.set()
        return
    for attempt in _attempts.values():
        if attempt.in_body:
            # Once: its `finally` blocks may take a while.
            attempt.in_body = False
            raise WorkerStopping


def _attend() -> None:
    while True:
        if not _attempts:
            _wanted.clear()
            _wanted.wait()
        time.sleep(TICK_SECONDS)
        for attempt in list(_attempts.values()):
            # The lease first: a report may hang as long as Redis does.
            now = time.monotonic()
            if now - attempt.looked_at >= LOOK_SECONDS or now >= attempt.ends_by:
                attempt.looked_at = now
                try:
                    _look_after(attempt, now)
                except Exception:
                    # The next look may do better; a thread that ended would let every lease run out.
                    log.exception("lease_not_looked_after", job_id=attempt.job_id)
            if attempt.reporter is not None:
                attempt.reporter.flush_due()
            if attempt.keep_result is not None:
                _keep_result(attempt, attempt.keep_result)


def _keep_result(attempt: Attempt, keep: Callable[[], object]) -> None:
    attempt.keep_result = None
    try:
        keep()
    except Exception:
        log.exception("result_not_kept", job_id=attempt.job_id)


def _look_after(attempt: Attempt, now: float) -> None:
    job_id = UUID(attempt.job_id)
    is_overdue = now >= attempt.ends_by
    if is_overdue:
        # Once more with the next look, should the database be away.
        attempt.ends_by = now + LOOK_SECONDS
    try:
        with in_application():
            if now - attempt.renewed_at >= RENEW_SECONDS:
                row = renew_lease(job_id, attempt.number)
                attempt.renewed_at = now
            else:
                row = read_attempt(job_id, attempt.number)
            if row is None:
                attempt.condemn(LeaseLost)
            elif row["cancel_requested_at"] is not None:
                attempt.condemn(JobCancelled)
            if is_overdue:
                _end_by_force(attempt)
            if attempt.keep_lines is not None:
                attempt.keep_lines()
    except DATABASE_AWAY as error:
        log.warning("lease_not_renewed", job_id=attempt.job_id, error=str(error).splitlines()[0])


def _end_by_force(attempt: Attempt) -> None:
    """Write the end of a body that does not end, and kill the process that runs it."""
    with _leaving:
        if not attempt.in_body:
            return
        if not is_pool_child():
            log.error("body_does_not_end", job_id=attempt.job_id, attempt=attempt.number)
            attempt.ends_by = float("inf")
            return
        if attempt.verdict is JobCancelled:
            # Before the kill: the parent process takes a job without an end for one that was lost with its worker.
            stop_job(UUID(attempt.job_id), attempt.number, attempt.progress)
            _tell_of_kill(attempt)
        log.error("process_killed", job_id=attempt.job_id, attempt=attempt.number, grace=attempt.grace)
        os.kill(os.getpid(), signal.SIGKILL)


def _tell_of_kill(attempt: Attempt) -> None:
    try:
        if attempt.last_words is not None:
            attempt.last_words(f"Killed: the job had not ended {attempt.grace:g} s after it was cancelled.")
    except Exception:
        log.exception("last_words_not_kept", job_id=attempt.job_id)


def is_pool_child() -> bool:
    """Whether this is one of the processes of a worker's pool, which runs one job at a time."""
    return bool(current_process().name != "MainProcess")


def until_written(write: Callable[[], T]) -> T:
    """What `write` returns, tried again for two minutes while the database is away."""
    ends = time.monotonic() + WRITE_SECONDS
    pause = 0.05
    while True:
        try:
            return write()
        except DATABASE_AWAY as error:
            if time.monotonic() > ends:
                raise
            log.warning("write_postponed", error=str(error).splitlines()[0])
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
