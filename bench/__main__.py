"""`python -m bench`: measure, print, write down."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import audience, report
from bench.baseline import run_bare
from bench.clients import Clients
from bench.figures import percentile
from bench.options import FOLDER, Options, parse
from bench.platform import Platform
from bench.profile import Profiles
from bench.results import Results
from bench.rounds import run_latency, run_saturation, run_worker_side
from bench.sizes import START_SECONDS, Sizes, expected_seconds
from bench.surroundings import look_around
from bench.webhooks import MANY, Webhooks, WebhooksBench
from bench.webhooks import expected_seconds as webhooks_seconds

# What the end of a run needs: stopping everything and writing the results.
END_SECONDS = 15.0
WARM_UP_JOBS = 200
# For the jobs that are run at each size, and for each round of webhooks.
JOBS_SECONDS = 10.0
DELIVERIES_SECONDS = 15.0
# Of the whole run, what at most is reserved for what comes after the jobs and the clients.
RESERVED_SHARE = 0.6


class Clock:
    """What is left of the time the run may take, in which `reserved` seconds are for what comes later."""

    def __init__(self, limit: float, reserved: float) -> None:
        self._began = time.monotonic()
        self._ends = self._began + limit - END_SECONDS - reserved

    def release(self, seconds: float) -> None:
        """So much of what was reserved is for now."""
        self._ends += seconds

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
    # Ended from outside it cleans up all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # On the disk of the checkout, where `make run` keeps its data: /tmp may be memory, which makes fsync free.
    parent = FOLDER / "var"
    parent.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
    for_sizes, for_webhooks = _reserves(options)
    clock = Clock(options.limit, for_sizes + for_webhooks)
    results = Results(options, look_around(parent))
    try:
        if {"jobs", "clients"} & set(options.parts):
            with _platform(folder / "speed", results) as (platform, clients):
                if "jobs" in options.parts:
                    _measure(results, platform, clients, clock)
                if "clients" in options.parts:
                    _measure_audiences(results, platform, clock)
        clock.release(for_sizes)
        if "sizes" in options.parts and options.rows:
            with _platform(folder / "sizes", results) as (platform, clients):
                _measure_sizes(results, platform, clients, clock)
        clock.release(for_webhooks)
        if "webhooks" in options.parts:
            with _platform(folder / "webhooks", results) as (platform, _):
                _measure_webhooks(results, platform, clock)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    results.seconds = clock.gone
    report.publish(results)
    return 0


@contextmanager
def _platform(folder: Path, results: Results) -> Iterator[tuple[Platform, Clients]]:
    options = results.options
    folder.mkdir()
    with Platform(folder, options.concurrency) as platform, Clients(platform, options.connections) as clients:
        results.durability = platform.durability()
        yield platform, clients


def _reserves(options: Options) -> tuple[float, float]:
    """Seconds for the sizes and for the webhooks. These write their log in the time that the sizes leave."""
    sizes = START_SECONDS + sum(map(expected_seconds, (0, *options.rows))) if options.rows else 0.0
    webhooks = webhooks_seconds(options.deliveries, 0, options.isolation_seconds)
    share = min(1.0, options.limit * RESERVED_SHARE / (sizes + webhooks))
    return sizes * share, webhooks * share


def _measure(results: Results, platform: Platform, clients: Clients, clock: Clock) -> None:
    options = results.options
    _say(f"warming up with {WARM_UP_JOBS} jobs")
    warm = run_saturation(platform, clients, WARM_UP_JOBS, clock.left)
    _say(f"latency at {options.rate} jobs/s for {options.seconds} s")
    results.latency = run_latency(platform, clients, options.rate, options.seconds)
    # On a machine where this many would not end in time, fewer: half of the time is for them all.
    audiences = sum(map(audience.expected_seconds, options.clients))
    share = max(0.0, clock.left - options.seconds - audiences) / 2
    jobs = min(options.jobs, _fits(warm.rate, share / options.rounds / 3))
    saturation_jobs = min(options.saturation_jobs, _fits(warm.rate, share / options.saturation_rounds))
    took = 0.0
    for number in range(max(options.rounds, options.saturation_rounds)):
        if number and not clock.allows(took + audiences):
            break
        took = -clock.gone
        if number < options.rounds:
            _compare(results, platform, clients, jobs, clock)
        if number < options.saturation_rounds:
            _saturate(results, platform, clients, saturation_jobs, clock)
        took += clock.gone


def _measure_audiences(results: Results, platform: Platform, clock: Clock) -> None:
    for clients in results.options.clients:
        if not clock.allows(audience.expected_seconds(clients)):
            _say(f"{clients} connected clients: left out, the time would not suffice")
            continue
        _say(f"{clients} connected clients, an event a second each")
        found = audience.run_audience(platform, clients)
        results.audiences.append(found)
        _say(f"  p99 {percentile(found.milliseconds, 99):.0f} ms, {found.kib_per_socket:.0f} KiB a socket")


def _measure_sizes(results: Results, platform: Platform, clients: Clients, clock: Clock) -> None:
    sizes = Sizes(platform, clients, clock.left)
    jobs = min(results.options.size_jobs, _fits(sizes.rate, JOBS_SECONDS))
    for rows in (0, *results.options.rows):
        if not clock.allows(expected_seconds(rows)):
            _say(f"{rows} jobs of old: left out, the time would not suffice")
            continue
        _say(f"with {rows} jobs of old in the tables")
        found = sizes.measure(rows, jobs, clock.left)
        results.sizes.append(found)
        _say(f"  {found.seconds:.0f} s to write {found.rows}, {found.worker.submission.rate:.0f} requests/s submitted,")
        _say(f"  {found.worker.rate:.0f} jobs/s claimed and run")


def _measure_webhooks(results: Results, platform: Platform, clock: Clock) -> None:
    options = results.options
    found = results.webhooks = Webhooks()
    with WebhooksBench(platform) as bench:
        deliveries = min(options.deliveries, _fits(bench.rate, DELIVERIES_SECONDS))
        rest = webhooks_seconds(deliveries, 0, options.isolation_seconds)
        _deliver(results, found, bench, deliveries, clock)
        if options.log_rows and clock.allows(2 * rest):
            _say(f"with {options.log_rows} deliveries of old in the log of webhooks")
            found.log_seconds = bench.write_log(options.log_rows, clock.left - rest)
            _say(f"  {found.log_seconds:.0f} s to write {bench.rows}")
            _deliver(results, found, bench, deliveries, clock)
            found.readings = bench.read()
        _say(f"webhooks beside endpoints that hang and fail, 2 times {options.isolation_seconds} s")
        found.isolation = bench.isolate(options.isolation_seconds)


def _deliver(results: Results, found: Webhooks, bench: WebhooksBench, deliveries: int, clock: Clock) -> None:
    profile = results.options.profile
    for endpoints in (1, MANY):
        _say(f"{deliveries} webhooks to {endpoints} endpoint{'s' if endpoints > 1 else ''}")
        if profile and not bench.rows:
            seconds = max(3, int(deliveries / bench.rate))
            profiles = Profiles(bench.platform, profile / f"webhooks-{endpoints}", seconds)
            found.throughput.append(bench.deliver(deliveries, endpoints, clock.left, profiles.start))
            profiles.finish()
        else:
            found.throughput.append(bench.deliver(deliveries, endpoints, clock.left))
        _say(f"  {found.throughput[-1].rate:.0f} deliveries/s")


def _fits(rate: float, seconds: float) -> int:
    """How many jobs, or deliveries, are done in so many seconds, in whole hundreds."""
    return max(100, int(rate * seconds) // 100 * 100)


def _saturate(results: Results, platform: Platform, clients: Clients, jobs: int, clock: Clock) -> None:
    options = results.options
    _say(f"saturation: {jobs} jobs over {options.connections} connections")
    if options.profile and not results.saturation:
        profiles = Profiles(platform, options.profile, seconds=max(3, jobs // 500))
        found = run_saturation(platform, clients, jobs, clock.left, profiles.start)
        profiles.finish()
    else:
        found = run_saturation(platform, clients, jobs, clock.left)
    results.saturation.append(found)
    _say(f"  {found.rate:.0f} jobs/s, {found.submission.rate:.0f} requests/s")


def _compare(results: Results, platform: Platform, clients: Clients, jobs: int, clock: Clock) -> None:
    number = f"{len(results.bare) + 1} of {results.options.rounds}"
    _say(f"worker side, round {number}: {jobs} jobs through Carillon, then through bare Celery")
    ours = run_worker_side(platform, clients, jobs, clock.left)
    platform.stop_worker()
    bare = run_bare(platform, jobs, clock.left)
    platform.start_worker()
    results.worker.append(ours)
    results.bare.append(bare)
    _say(f"  {ours.rate:.0f} and {bare.rate:.0f} jobs/s: {ours.rate / bare.rate if bare.rate else 0:.2f}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
