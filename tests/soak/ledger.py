"""What the platform accepted, and how each of it has to end."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass

from tests.soak.scale import Scale


@dataclass(frozen=True, kw_only=True)
class Promise:
    """An accepted job, and the end that its kind has to come to."""

    job_id: str
    owner: str
    kind: str
    status: str = "completed"
    # Of the error of a job that has to fail.
    code: str | None = None
    # Attempts that fail, of those that are not lost: of a job that completes the first ones, of another in all.
    failures: int = 0
    # Its first round fails, and somebody runs it again.
    again_by_hand: bool = False
    # Jobs that have to end before it starts.
    parents: tuple[str, ...] = ()
    # Of the jobs of one group one runs at a time.
    group: str | None = None


class Ledger:
    """Written by the customers' threads, read when they are done."""

    def __init__(self) -> None:
        self.promises: dict[str, Promise] = {}
        # Ids of jobs that stood for submissions of a unique key.
        self.stood_for: set[str] = set()
        self.workflows: dict[str, str] = {}
        self.submissions = 0
        self.duplicates = 0
        # Answers that were lost on purpose, and requests without one of their own, by what came instead.
        self.lost_answers = 0
        self.refusals: Counter[str] = Counter()
        # What must not happen: answers that the contract does not know, threads that fell over.
        self.surprises: list[str] = []
        self._lock = threading.Lock()

    def promise(self, promise: Promise) -> None:
        """Note an accepted job; a job that stands for several submissions is one."""
        with self._lock:
            self.promises.setdefault(promise.job_id, promise)

    def count(self, *, submissions: int = 0, duplicates: int = 0, lost_answers: int = 0) -> None:
        """Note what became of a submission."""
        with self._lock:
            self.submissions += submissions
            self.duplicates += duplicates
            self.lost_answers += lost_answers

    def refuse(self, how: str) -> None:
        """Note a request that has to be sent again."""
        with self._lock:
            self.refusals[how] += 1

    def surprise(self, what: str) -> None:
        """Note what must not happen."""
        with self._lock:
            self.surprises.append(what)


class Quota:
    """The jobs that are left to submit, given out at the pace of the scale."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._began = time.monotonic()
        self._ends = self._began + scale.seconds
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def is_used_up(self) -> bool:
        """Whether there are no more jobs, or there is no more time."""
        return self._taken >= self._scale.jobs or time.monotonic() >= self._ends

    def take(self, jobs: int) -> bool:
        """Wait for the turn of so many jobs; False when it is over."""
        with self._lock:
            if self.is_used_up:
                return False
            turn = self._began + self._taken / self._scale.pace
            self._taken += jobs
        time.sleep(max(0.0, turn - time.monotonic()))
        return True
