"""Who used how much CPU and memory: processes in named groups, between two moments."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import psutil

Part = Literal["itself", "below", "all"]

SAMPLE_SECONDS = 1.0


@dataclass
class Usage:
    """CPU seconds (user and system) and peak memory in MiB of each group."""

    cpu: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    # Cores kept busy by whoever else is on the machine, the bench's main process and the kernel among them.
    others: float = 0.0


class Meter:
    """Groups of processes by name: a process itself, those below it, or all of these."""

    def __init__(self, groups: Mapping[str, tuple[int, Part]]) -> None:
        self._groups = dict(groups)

    @contextmanager
    def measure(self) -> Iterator[Usage]:
        """Measure what the body of the `with` statement costs; the usage is complete after it."""
        usage = Usage(memory=dict.fromkeys(self._groups, 0.0))
        stop = threading.Event()
        sampler = threading.Thread(target=self._sample, args=(usage, stop), daemon=True)
        began, before, machine = time.monotonic(), self._cpu(), _machine()
        sampler.start()
        try:
            yield usage
        finally:
            after = self._cpu()
            busy = _machine() - machine
            seconds = time.monotonic() - began
            stop.set()
            sampler.join()
            usage.cpu = {name: max(0.0, after[name] - before[name]) for name in self._groups}
            usage.others = max(0.0, busy - sum(usage.cpu.values())) / seconds

    def _cpu(self) -> dict[str, float]:
        return {name: sum(map(_cpu_seconds, _processes(pid, part))) for name, (pid, part) in self._groups.items()}

    def _sample(self, usage: Usage, stop: threading.Event) -> None:
        while True:
            for name, (pid, part) in self._groups.items():
                usage.memory[name] = max(usage.memory[name], _memory(_processes(pid, part)))
            if stop.wait(SAMPLE_SECONDS):
                return


def _machine() -> float:
    """CPU seconds of the whole machine."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _processes(pid: int, part: Part) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        below = [] if part == "itself" else process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return below if part == "below" else [process, *below]


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    # With the children that have ended, such as connections to PostgreSQL that were closed.
    return float(times.user + times.system + times.children_user + times.children_system)


def _memory(processes: list[psutil.Process]) -> float:
    """MiB: what each has for itself, and what they may share counted once."""
    private, shared = 0, 0
    for process in processes:
        try:
            memory = process.memory_info()
        except psutil.NoSuchProcess:
            continue
        its_shared = getattr(memory, "shared", 0)
        private += memory.rss - its_shared
        shared = max(shared, its_shared)
    return (private + shared) / 2**20
