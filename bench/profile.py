"""Where the time goes: py-spy on the processes of a saturation round, added up by function."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from bench.platform import Platform

SAMPLES_A_SECOND = 200
TOP = 30
# What a worker has to start its processes.
CHILD_SECONDS = 20.0
# Threads that wait; the profiler takes them for busy when it stops a process to look at it.
_WAITING = re.compile(r"tworker \(|Event\.wait \(threading|\b_attend \([^;]*$|Worker\.wait_for_job[^;]*$")
# The folders that say nothing: an installation's, or this checkout's.
_FOLDERS = re.compile(r"\((?:.*site-packages/|.*/lib/python3\.\d+/|(?:/.*)?(?=(?:service|tasks|bench)/))")


class Profiles:
    """Profilers attached to one web process, one worker child, its parent and the delivery worker."""

    def __init__(self, platform: Platform, folder: Path, seconds: int) -> None:
        self._platform = platform
        self._folder = folder
        self._seconds = seconds
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Attach the profilers; they end by themselves."""
        program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
        if program is None:
            raise SystemExit("--profile needs py-spy: pip install py-spy")
        self._folder.mkdir(parents=True, exist_ok=True)
        stack = self._platform.stack
        pids = {name: stack.process(name).pid for name in ("web", "worker", "delivery")}
        pids["worker-child"] = _child_of_worker(self._platform)
        for name, pid in pids.items():
            options = ["-d", str(self._seconds), "-r", str(SAMPLES_A_SECOND), "-f", "raw", "--nonblocking"]
            self._running[name] = subprocess.Popen(
                [program, "record", "-p", str(pid), *options, "-o", str(self._folder / f"{name}.raw")],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def finish(self) -> None:
        """Wait for the profilers and write `<process>.txt` beside each raw profile."""
        for name, profiler in self._running.items():
            try:
                profiler.wait(self._seconds + 30)
            except subprocess.TimeoutExpired:
                profiler.kill()
                profiler.wait()
            raw = self._folder / f"{name}.raw"
            if raw.exists():
                (self._folder / f"{name}.txt").write_text(summary(raw.read_text()))


def _child_of_worker(platform: Platform) -> int:
    """The number of a process that runs jobs; a worker that was started just now is given time to make one."""
    ends = time.monotonic() + CHILD_SECONDS
    while not (children := platform.stack.process("worker").descendants()):
        if time.monotonic() > ends:
            raise SystemExit("--profile: the worker has no process that runs jobs")
        time.sleep(0.1)
    return children[-1].pid


def summary(raw: str) -> str:
    """The functions with the most samples, by themselves and with what they call, as a share of all samples."""
    itself: Counter[str] = Counter()
    within: Counter[str] = Counter()
    total = 0
    for line in raw.splitlines():
        stack, _, count_text = line.rpartition(" ")
        if _WAITING.search(stack):
            continue
        count = int(count_text)
        # Without line numbers: the functions are added up.
        frames = [re.sub(r":\d+\)$", ")", _FOLDERS.sub("(", frame)) for frame in stack.split(";")]
        total += count
        itself[frames[-1]] += count
        within.update(dict.fromkeys(frames, count))
    lines = [f"{total} samples, {SAMPLES_A_SECOND} a second", "", "with what they call:"]
    lines += [f"{100 * count / total:6.1f} %  {name}" for name, count in within.most_common(2 * TOP)]
    lines += ["", "by themselves:"]
    lines += [f"{100 * count / total:6.1f} %  {name}" for name, count in itself.most_common(TOP)]
    return "\n".join(lines) + "\n"
