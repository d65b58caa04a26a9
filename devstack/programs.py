"""The command line of every process of the platform; nowhere else is one written down."""

from __future__ import annotations

import sys
from pathlib import Path

from devstack.processes import Program
from devstack.settings import StackSettings

# Everywhere the interpreter at hand, so that no other installation's `celery` is taken from the PATH.
_CELERY = (sys.executable, "-m", "celery", "-A", "tasks:celery_app", "--quiet")
# Carillon finds dead workers by leases; gossip and mingle would only talk and slow the start down.
_QUIET_WORKER = ("--without-gossip", "--without-mingle")


def carillon(*arguments: str) -> tuple[str, ...]:
    """Return the command line of the console script, for example `carillon("migrate")`."""
    return (str(Path(sys.executable).with_name("carillon")), *arguments)


def web(port: int, name: str = "web") -> Program:
    """Return a web node on this port."""
    return Program(name, (sys.executable, "wsgi.py"), environment={"PORT": str(port)})


def worker(concurrency: int, name: str = "worker", node: str = "jobs", queues: str = "default") -> Program:
    """Return a worker that runs jobs in `concurrency` processes."""
    pool = ("-P", "prefork", "-c", str(concurrency))
    command = (*_CELERY, "worker", *pool, "-Q", queues, "-n", f"{node}@%h", *_QUIET_WORKER)
    return Program(name, command, environment={"MAX_CONCURRENT_JOBS": str(concurrency)})


def delivery(name: str = "delivery", node: str = "delivery") -> Program:
    """Return a worker that delivers webhooks and messages and keeps house, on green threads."""
    pool = ("-P", "eventlet", "-c", "200")
    queues = ("-Q", "delivery,housekeeping")
    command = (*_CELERY, "worker", *pool, *queues, "-n", f"{node}@%h", *_QUIET_WORKER)
    # Celery imports eventlet before anything of ours, which would keep it from saying that it is deprecated.
    return Program(name, command, environment={"PYTHONWARNINGS": "ignore::Warning:celery"})


def beat(schedule_file: Path, name: str = "beat") -> Program:
    """Return the clock that sends the ticks."""
    return Program(name, (*_CELERY, "beat", "-s", str(schedule_file), "--pidfile="))


def flower(port: int) -> Program:
    """Return Flower; the platform does without it when it fails."""
    # It warns of workers that are still starting, and tells of each plug-in that it does not need.
    command = (*_CELERY, "flower", f"--port={port}", "--address=127.0.0.1", "--logging=error")
    return Program("flower", command, essential=False)


def all_programs(settings: StackSettings) -> dict[str, Program]:
    """Return the programs of a whole platform by name, in the order in which they are started."""
    programs = (
        web(settings.port),
        worker(settings.concurrency, queues=settings.job_queues),
        delivery(),
        beat(settings.var_folder / "beat-schedule"),
        flower(settings.flower_port),
    )
    return {program.name: program for program in programs}
