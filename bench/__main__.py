"""`python -m bench`: measure, print, write down."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import report
from bench.baseline import run_bare
from bench.clients import Clients
from bench.options import FOLDER, parse
from bench.platform import Platform
from bench.profile import Profiles
from bench.results import Results
from bench.rounds import run_latency, run_saturation, run_worker_side
from bench.surroundings import look_around

# What the end of a run needs: stopping everything and writing the results.
END_SECONDS = 15.0
WARM_UP_JOBS = 200


class Clock:
    """What is left of the time the run may take."""

    def __init__(self, limit: float) -> None:
        self._began = time.monotonic()
        self._ends = self._began + limit - END_SECONDS

    @property
    def gone(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    @property
    def left(self) -> float:
        """Seconds until the measurements have to be over, at least a few."""
        return max(5.0, self._ends - time.monotonic())

    def allows(self, seconds: float) -> bool:
        """Whether something of this length would end in time."""
        return time.monotonic() + seconds < self._ends


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit code, which no figure changes."""
    options = parse(arguments)
    # On the disk of the checkout, where `make run` keeps its data: /tmp may be memory, which makes fsync free.
    parent = FOLDER / "var"
    parent.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
    clock = Clock(options.limit)
    results = Results(options, look_around(parent))
    try:
        with Platform(folder, options.concurrency) as platform, Clients(platform, options.connections) as clients:
            _measure(results, platform, clients, clock)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    results.seconds = clock.gone
    report.publish(results)
    return 0


def _measure(results: Results, platform: Platform, clients: Clients, clock: Clock) -> None:
    options = results.options
    results.durability = platform.durability()
    _say(f"warming up with {WARM_UP_JOBS} jobs")
    run_saturation(platform, clients, WARM_UP_JOBS, clock.left)
    _say(f"latency at {options.rate} jobs/s for {options.seconds} s")
    results.latency = run_latency(platform, clients, options.rate, options.seconds)
    _saturate(results, platform, clients, clock)
    _alternate(results, platform, clients, clock)
    took = 0.0
    while len(results.saturation) < options.saturation_rounds and clock.allows(took):
        took = -clock.gone
        _saturate(results, platform, clients, clock)
        took += clock.gone


def _saturate(results: Results, platform: Platform, clients: Clients, clock: Clock) -> None:
    options = results.options
    _say(f"saturation: {options.saturation_jobs} jobs over {options.connections} connections")
    if options.profile and not results.saturation:
        profiles = Profiles(platform, options.profile, seconds=max(3, options.saturation_jobs // 500))
        found = run_saturation(platform, clients, options.saturation_jobs, clock.left, profiles.start)
        profiles.finish()
    else:
        found = run_saturation(platform, clients, options.saturation_jobs, clock.left)
    results.saturation.append(found)
    _say(f"  {found.rate:.0f} jobs/s, {found.submission.rate:.0f} requests/s")


def _alternate(results: Results, platform: Platform, clients: Clients, clock: Clock) -> None:
    options = results.options
    took = 0.0
    while len(results.bare) < options.rounds and clock.allows(took):
        took = -clock.gone
        number = f"{len(results.bare) + 1} of {options.rounds}"
        _say(f"worker side, round {number}: {options.jobs} jobs through Carillon, then through bare Celery")
        ours = run_worker_side(platform, clients, options.jobs, clock.left)
        platform.stop_worker()
        bare = run_bare(platform, options.jobs, clock.left)
        platform.start_worker()
        results.worker.append(ours)
        results.bare.append(bare)
        took += clock.gone
        _say(f"  {ours.rate:.0f} and {bare.rate:.0f} jobs/s: {ours.rate / bare.rate if bare.rate else 0:.2f}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
