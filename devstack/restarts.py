"""When a process that died by itself is started again, and when no more."""

from __future__ import annotations

import time
from collections.abc import Callable

LIMIT = 5
STEADY_SECONDS = 60.0


class Restarts:
    """The restarts of one process: after 1, 2, 4, 8 and 16 s; a steady minute forgets earlier ones."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self._clock = clock
        self._due: float | None = None
        self._started = clock()

    @property
    def is_planned(self) -> bool:
        """Whether a restart has been planned and not yet been made."""
        return self._due is not None

    @property
    def is_due(self) -> bool:
        """Whether the pause before the planned restart is over."""
        return self._due is not None and self._clock() >= self._due

    def plan(self) -> float | None:
        """Plan the next restart, return the seconds until then; None if there were too many in a row."""
        if self._clock() - self._started >= STEADY_SECONDS:
            self.count = 0
        if self.count == LIMIT:
            return None
        pause = 2.0**self.count
        self.count += 1
        self._due = self._clock() + pause
        return pause

    def made(self) -> None:
        """Note that the planned restart has been made."""
        self._due = None
        self._started = self._clock()
