"""Numbers of a run: medians, percentiles, ratios, and the bars they are held against."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.cpu import Usage
from bench.reading import LIST_BAR, Reading
from bench.results import Results
from bench.webhooks import BROKEN, HANGING

# What others reached over HTTP on two cores of another run (docs: guarantees, "Speed"), jobs a second.
OTHERS = {
    "Flask-SocketIO and Celery, wired by hand": 121,
    "Express, BullMQ and Socket.IO, notifications stored": 549,
    "the same, tuned by hand": 1_078,
}
PERCENTILES = (50.0, 95.0, 99.0, 100.0)


@dataclass(frozen=True)
class Spread:
    """A figure over rounds."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of some values; all nought where there are none."""
        return cls(min(values), statistics.median(values), max(values)) if values else cls(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Bar:
    """A figure beside what it should be."""

    what: str
    unit: str
    figure: float
    bar: float
    # Whether more is better.
    at_least: bool

    @property
    def passes(self) -> bool:
        """Whether the figure is good enough."""
        return self.figure >= self.bar if self.at_least else self.figure <= self.bar


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of sorted values; NaN of none."""
    if not values:
        return math.nan
    return values[max(0, math.ceil(share / 100 * len(values)) - 1)]


def pair_ratios(results: Results) -> list[float]:
    """Carillon's rate over bare Celery's, of each pair of rounds."""
    pairs = zip(results.worker, results.bare, strict=True)
    return [ours.rate / bare.rate for ours, bare in pairs if bare.rate]


def ratio_of_medians(results: Results) -> float:
    """The median of Carillon's rounds over that of bare Celery's."""
    bare = Spread.of([each.rate for each in results.bare]).median
    return Spread.of([each.rate for each in results.worker]).median / bare if bare else 0.0


def saturation(results: Results) -> Spread:
    """Jobs a second, everything on, over HTTP."""
    return Spread.of([each.rate for each in results.saturation])


def bars(results: Results) -> list[Bar]:
    """The figures that have a bar."""
    found = []
    if results.worker:
        found = [
            Bar("worker side, of bare Celery's rate", "", ratio_of_medians(results), 0.7, at_least=True),
            Bar("over HTTP at saturation", "jobs/s", saturation(results).median, 1_078, at_least=True),
        ]
    if results.latency:
        socket, webhook = results.latency.socket, results.latency.webhook
        found += [
            Bar("202 to job:completed at the socket, p50", "ms", percentile(socket, 50), 8, at_least=False),
            Bar("202 to job:completed at the socket, p99", "ms", percentile(socket, 99), 25, at_least=False),
            Bar("202 to the webhook, p99", "ms", percentile(webhook, 99), 40, at_least=False),
        ]
    if results.audiences:
        most = results.audiences[-1]
        what = f"at {most.clients:,} connected clients, "
        found += [
            Bar(f"{what}p99", "ms", percentile(most.milliseconds, 99), 250, at_least=False),
            Bar(f"{what}KiB an idle socket", "KiB", most.kib_per_socket, 40, at_least=False),
        ]
    return found + _list_bars(results) + _isolation_bars(results)


def _isolation_bars(results: Results) -> list[Bar]:
    found = results.webhooks and results.webhooks.isolation
    if not found:
        return []
    what = f"healthy endpoints' p99 beside {HANGING} hanging and {BROKEN} broken ones, of their p99 alone"
    alone = percentile(found.alone.milliseconds, 99)
    return [Bar(what, "", percentile(found.beside.milliseconds, 99) / alone, 1.5, at_least=False)]


def _list_bars(results: Results) -> list[Bar]:
    """Of the most rows: the slowest list of all, and of those that no index knows."""
    if not results.sizes:
        return []
    largest = results.sizes[-1]
    lists = [reading for reading in largest.readings if reading.has_bar]
    searches = [reading for reading in lists if "&q=" in reading.path]
    return [
        Bar(f"{what} at {largest.rows:,} rows, p99", "ms", slowest(readings), LIST_BAR, at_least=False)
        for what, readings in (
            ("slowest list", [reading for reading in lists if reading not in searches]),
            ("slowest search in names", searches),
        )
    ]


def slowest(readings: Sequence[Reading]) -> float:
    """Milliseconds, the p99 of the slowest."""
    return max(percentile(reading.milliseconds, 99) for reading in readings)


def cpu_per_job(usages: Sequence[tuple[Usage, int]]) -> dict[str, float]:
    """Milliseconds of CPU a job by process, the median over rounds `(usage, jobs)`."""
    names = {name: None for usage, _ in usages for name in usage.cpu}
    return {
        name: statistics.median(usage.cpu.get(name, 0.0) * 1000 / jobs for usage, jobs in usages if jobs)
        for name in names
    }


def peak_memory(usages: Sequence[Usage]) -> dict[str, float]:
    """MiB by process, the most of all rounds."""
    names = {name: None for usage in usages for name in usage.memory}
    return {name: max(usage.memory.get(name, 0.0) for usage in usages) for name in names}
