"""What a run measures, how often and for how long."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
# In their order: jobs beside bare Celery, connected clients, many jobs in the tables, the delivery of webhooks.
PARTS = ("jobs", "clients", "sizes", "webhooks")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of one run; every count and time has a bound."""

    parts: tuple[str, ...]
    jobs: int
    rounds: int
    concurrency: int
    connections: int
    saturation_jobs: int
    saturation_rounds: int
    rate: int
    seconds: int
    # How many jobs of old are in the tables when submit, claim and list are measured, one size after the other.
    rows: tuple[int, ...]
    # Jobs that are submitted and run at each of these sizes.
    size_jobs: int
    # How many clients are connected when an event a second is told to each, one number after the other.
    clients: tuple[int, ...]
    # Webhooks that are due at once, deliveries of old in their log, and for how long each half of the other measurement
    # of them goes.
    deliveries: int
    log_rows: int
    isolation_seconds: int
    # The whole run with its start and end; a round that would not end in time is left out.
    limit: int
    quick: bool
    # Where RESULTS.* go; None: they are only printed.
    output: Path | None
    # Where the profiles of the saturation round go; None: no profiler runs.
    profile: Path | None


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Carillon beside bare Celery, on servers of its own on this machine."
    )
    whole = _number
    parser.add_argument("--quick", action="store_true", help="a short version; its figures are a smoke test")
    parser.add_argument("--only", choices=PARTS, help="one part, which is printed and not kept")
    parser.add_argument(
        "--jobs", type=whole(50, 20_000), help="jobs of a round of the worker side, at most (2000; quick 300)"
    )
    parser.add_argument("--rounds", type=whole(1, 10), help="rounds of each side, alternating (3; quick 1)")
    parser.add_argument("--concurrency", type=whole(1, 64), help="processes of each worker (one a core, at least 2)")
    parser.add_argument("--connections", type=whole(1, 256), help="HTTP connections that submit (16)")
    parser.add_argument(
        "--saturation-jobs", type=whole(50, 50_000), help="jobs submitted at once, at most (5000; quick 500)"
    )
    parser.add_argument("--saturation-rounds", type=whole(1, 10), help="how often they are (2; quick 1)")
    parser.add_argument("--rate", type=whole(1, 2_000), help="jobs a second while latency is measured (50)")
    parser.add_argument("--seconds", type=whole(2, 120), help="for how long (20; quick 4)")
    parser.add_argument(
        "--rows", type=_sizes, help="jobs of old in the tables, one size after the other (10000,1000000; quick: none)"
    )
    parser.add_argument(
        "--size-jobs", type=whole(50, 20_000), help="jobs submitted and run at each of these sizes, at most (1000)"
    )
    parser.add_argument(
        "--clients",
        type=_sizes,
        help="connected clients that hear an event a second each, one number after the other (1,100,2000; quick: 100)",
    )
    parser.add_argument("--deliveries", type=whole(50, 50_000), help="webhooks that are due at once (3000; quick 500)")
    parser.add_argument(
        "--log-rows", type=whole(0, 10_000_000), help="deliveries of old in the log of webhooks (1000000; quick 0)"
    )
    parser.add_argument(
        "--isolation-seconds",
        type=whole(2, 120),
        help="how long webhooks are sent without, and then with, endpoints that hang and fail (15; quick 5)",
    )
    parser.add_argument(
        "--limit",
        type=whole(20, 3_600),
        help="seconds the whole run may take (600, up to three fifths of them for the sizes and webhooks; quick 130)",
    )
    parser.add_argument("--output", type=Path, help="folder of RESULTS.* (bench/; quick and --only: none)")
    parser.add_argument("--profile", type=Path, help="folder for profiles of jobs and webhooks (needs py-spy)")
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    quick: bool = given["quick"]
    only: str | None = given.pop("only", None)
    defaults = {
        "parts": PARTS if only is None else (only,),
        "jobs": 300 if quick else 2_000,
        "rounds": 1 if quick else 3,
        "concurrency": max(os.cpu_count() or 2, 2),
        "connections": 16,
        "saturation_jobs": 500 if quick else 5_000,
        "saturation_rounds": 1 if quick else 2,
        "rate": 50,
        "seconds": 4 if quick else 20,
        "size_jobs": 1_000,
        "rows": () if quick else (10_000, 1_000_000),
        "clients": (100,) if quick else (1, 100, 2_000),
        "deliveries": 500 if quick else 3_000,
        "log_rows": 0 if quick else 1_000_000,
        "isolation_seconds": 5 if quick else 15,
        "limit": 130 if quick else 600,
        "output": None if quick or only else FOLDER,
        "profile": None,
    }
    return Options(**{**defaults, **given})


def _sizes(text: str) -> tuple[int, ...]:
    """Numbers of rows, from the smallest; `none` for none."""
    if text == "none":
        return ()
    parse_number = _number(1, 10_000_000)
    return tuple(sorted({parse_number(part) for part in text.split(",")}))


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse_number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be {least} to {most}")
        return value

    return parse_number
