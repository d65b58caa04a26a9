"""What arrived, when, and whether all of it has: the same for the socket and the webhook."""

from __future__ import annotations

import time
from typing import Any

from bench.children import Message, Parent


class Arrivals:
    """First arrival of each job since the last `expect`, and how many came again.

    Times are those of `time.monotonic`, which on one machine all processes share.
    """

    def __init__(self, parent: Parent) -> None:
        self._parent = parent
        self._expected = 0
        self._ends: float | None = None
        self._forget()

    def obey(self, command: Message) -> None:
        """Begin anew, or wait for so many jobs: `{expect, timeout}`, of which the answer tells the times."""
        if command.get("forget"):
            self._forget()
            self._parent.say({})
            return
        self._expected = command["expect"]
        self._ends = time.monotonic() + command["timeout"]
        self.look()

    def note(self, job_id: str, at: float) -> None:
        """A job arrived."""
        if job_id in self.times:
            self.again += 1
        else:
            self.times[job_id] = at

    def look(self) -> None:
        """Answer if everything expected is there, or the time is over."""
        if self._ends is None:
            return
        if len(self.times) >= self._expected or time.monotonic() > self._ends:
            self._ends = None
            self._parent.say({"times": self.times, "again": self.again, **self.details})

    def _forget(self) -> None:
        self.times: dict[str, float] = {}
        self.again = 0
        self.details: dict[str, Any] = {}
