"""What a run was made on: enough to compare two runs, nothing that tells whose machine it was."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

LIBRARIES = (
    "celery",
    "kombu",
    "redis",
    "hiredis",
    "flask",
    "flask-socketio",
    "eventlet",
    "sqlalchemy",
    "psycopg2-binary",
)


@dataclass(frozen=True)
class Surroundings:
    """Date, commit, versions, cores, load, disk."""

    date: str
    commit: str
    python: str
    libraries: dict[str, str]
    cores: int
    # The run queue before the run: others at work on the machine make all figures worse.
    load: float
    # Milliseconds of one fdatasync of 8 KiB, the least a durable commit costs.
    sync: float


def look_around(folder: Path) -> Surroundings:
    """Look at the machine; `folder` is on the disk that will be used."""
    return Surroundings(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=_commit(),
        python=platform.python_version(),
        libraries={name: version(name) for name in LIBRARIES},
        cores=os.cpu_count() or 0,
        load=round(os.getloadavg()[0], 2),
        sync=_sync_milliseconds(folder),
    )


def _commit() -> str:
    def git(*arguments: str) -> str:
        try:
            return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return ""

    commit = git("rev-parse", "--short", "HEAD") or "unknown"
    return f"{commit} with changes" if git("status", "--porcelain", "--untracked-files=no") else commit


def _sync_milliseconds(folder: Path) -> float:
    with tempfile.TemporaryFile(dir=folder) as file:
        times = []
        for _ in range(50):
            file.write(bytes(8192))
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(times), 3)
