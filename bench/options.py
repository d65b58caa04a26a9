"""What a run measures, how often and for how long."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of one run; every count and time has a bound."""

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
    parser.add_argument("--quick", action="store_true", help="a minute's version; its figures are a smoke test")
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
    parser.add_argument(
        "--limit",
        type=whole(20, 3_600),
        help="seconds the whole run may take (540, about half of them for the sizes of --rows; quick 100)",
    )
    parser.add_argument("--output", type=Path, help="folder of RESULTS.* (bench/; quick: none)")
    parser.add_argument("--profile", type=Path, help="folder for profiles of the saturation round (needs py-spy)")
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    quick: bool = given["quick"]
    defaults = {
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
        "limit": 100 if quick else 540,
        "output": None if quick else FOLDER,
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
