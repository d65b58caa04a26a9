"""The same work with more and more jobs in the tables: submit, claim and list."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench.clients import Clients
from bench.history import History
from bench.platform import Platform
from bench.reading import Reading, read_all
from bench.rounds import WorkerRound, run_saturation, run_worker_side

WARM_UP_JOBS = 200
# What comes after the last job, autovacuum among it, is no part of reading.
SETTLE_SECONDS = 3.0
# What to expect of a machine of two cores, so that what is begun is also finished: of a platform that starts, of the
# measurements at one size, of a million rows.
START_SECONDS, SIZE_SECONDS, MILLION_SECONDS = 25.0, 40.0, 110.0


@dataclass(frozen=True)
class SizeRound:
    """Submitting, claiming and listing with so many jobs of old in the tables; 0: almost empty ones."""

    rows: int
    # How long it took to write them.
    seconds: float
    worker: WorkerRound
    readings: list[Reading]


def expected_seconds(rows: int) -> float:
    """How long the measurements at one size take, with writing its rows."""
    return SIZE_SECONDS + rows / 1_000_000 * MILLION_SECONDS


class Sizes:
    """A platform whose history grows."""

    def __init__(self, platform: Platform, clients: Clients, timeout: float) -> None:
        self._platform = platform
        self._clients = clients
        self._operator_token = platform.make_operator()
        # Jobs a second, to begin with.
        self.rate = run_saturation(platform, clients, WARM_UP_JOBS, timeout).rate
        self._history = History(platform.stack.database_url, platform.username)

    def measure(self, rows: int, jobs: int, timeout: float) -> SizeRound:
        """Have so many rows, or as many as the time allows, queue and run `jobs` jobs, and read the lists."""
        seconds = self._history.grow(rows, timeout - SIZE_SECONDS)
        worker = run_worker_side(self._platform, self._clients, jobs, max(SIZE_SECONDS, timeout - seconds))
        time.sleep(SETTLE_SECONDS)
        return SizeRound(self._history.rows, seconds, worker, read_all(self._platform, self._operator_token))
