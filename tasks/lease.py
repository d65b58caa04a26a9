"""The attempts this process runs, and the thread that looks after them.

It sends the progress that was held back, and it holds on to the jobs: a job is held by a lease of 30 s in SQL. The
thread renews it every 10 s, and looks every 2 s whether somebody asked to cancel the job or gave it to another worker.
A process that dies stops renewing, and the job is rescued.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.events import JobRow
from service.jobs.lifecycle import read_attempt, renew_lease
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
    progress: Mapping[str, Any] | None = None
    reporter: Reporter | None = None
    cancel_requested: threading.Event = field(default_factory=threading.Event)
    lost: threading.Event = field(default_factory=threading.Event)
    looked_at: float = field(default_factory=time.monotonic)
    renewed_at: float = field(default_factory=time.monotonic)

    @property
    def job_id(self) -> str:
        """The id of the job."""
        return str(self.row["id"])

    @property
    def number(self) -> int:
        """Which attempt of the job this is, from 1; with the id the fence of its writes."""
        return int(self.row["attempt"])


_attempts: dict[str, Attempt] = {}
_thread: threading.Thread | None = None
_wanted = threading.Event()


def hold(task_id: str, row: JobRow) -> None:
    """Hold on to a claimed attempt until `forget`."""
    global _thread  # noqa: PLW0603 - one thread a process
    _attempts[task_id] = Attempt(row)
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


def _attend() -> None:
    while True:
        if not _attempts:
            _wanted.clear()
            _wanted.wait()
        time.sleep(TICK_SECONDS)
        for attempt in list(_attempts.values()):
            # The lease first: a report may hang as long as Redis does.
            now = time.monotonic()
            if now - attempt.looked_at >= LOOK_SECONDS:
                attempt.looked_at = now
                try:
                    _look_after(attempt, now)
                except Exception:
                    # The next look may do better; a thread that ended would let every lease run out.
                    log.exception("lease_not_looked_after", job_id=attempt.job_id)
            if attempt.reporter is not None:
                attempt.reporter.flush_due()


def _look_after(attempt: Attempt, now: float) -> None:
    job_id = UUID(attempt.job_id)
    try:
        with in_application():
            if now - attempt.renewed_at >= RENEW_SECONDS:
                row = renew_lease(job_id, attempt.number)
                attempt.renewed_at = now
            else:
                row = read_attempt(job_id, attempt.number)
    except DATABASE_AWAY as error:
        log.warning("lease_not_renewed", job_id=attempt.job_id, error=str(error).splitlines()[0])
        return
    if row is None:
        attempt.lost.set()
    elif row["cancel_requested_at"] is not None:
        attempt.cancel_requested.set()


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
