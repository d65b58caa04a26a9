"""How large a soak is."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Scale:
    """A soak ends its torment after so many `jobs` or so many `seconds`, whichever comes first."""

    jobs: int
    seconds: float
    # Of what is submitted and of what is killed; their times are the machine's own.
    seed: int

    @classmethod
    def from_environment(cls) -> Self:
        """What CARILLON_SOAK_JOBS, _SECONDS and _SEED say; without them small enough for every test run."""
        return cls(
            jobs=int(os.environ.get("CARILLON_SOAK_JOBS") or 700),
            seconds=float(os.environ.get("CARILLON_SOAK_SECONDS") or 30),
            seed=int(os.environ.get("CARILLON_SOAK_SEED") or random.randrange(1_000_000)),
        )

    @property
    def pace(self) -> float:
        """Jobs to submit a second, so that they last for most of the time."""
        return self.jobs / (0.9 * self.seconds)

    @property
    def pause(self) -> float:
        """Mean seconds between two faults: in a long soak enough of them for what was hurt to work again."""
        return min(self.seconds / 20, 6.0)
