"""When the next attempt of a job begins."""

from __future__ import annotations

import random

EXPONENTIAL = "exponential"
LINEAR = "linear"
FIXED = "fixed"
STRATEGIES = (EXPONENTIAL, LINEAR, FIXED)

MAXIMUM_DELAY_SECONDS = 6 * 3600.0
JITTER = 0.1


def retry_delay(strategy: str, base_seconds: float, failures: int, rng: random.Random) -> float:
    """Seconds until the attempt after `failures` (1 or more) failed ones.

    What the strategy says, ±10 % so that jobs that failed together do not return together.
    """
    return strategy_delay(strategy, base_seconds, failures) * rng.uniform(1 - JITTER, 1 + JITTER)


def strategy_delay(strategy: str, base_seconds: float, failures: int) -> float:
    """Seconds as the strategy has them, at most 6 hours.

    Exponential: base, 2 base, 4 base, …; linear: base, 2 base, 3 base, …; fixed: base.
    """
    factor = {EXPONENTIAL: 2.0 ** min(failures - 1, 32), LINEAR: float(failures), FIXED: 1.0}[strategy]
    return min(base_seconds * factor, MAXIMUM_DELAY_SECONDS)
