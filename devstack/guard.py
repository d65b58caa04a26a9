"""A watcher process that ends what its parent started, should the parent die without doing so itself.

Why not PR_SET_PDEATHSIG: it fires when the *thread* that started a child ends, it is cleared by the change
of user that PostgreSQL needs under root, it reaches neither Celery's pool children nor the servers in a
sensible order, and only Linux has it. A pipe that closes when the parent is gone has none of these traps.

This file is also the watcher's program; it runs without site-packages, so it imports nothing but the
standard library.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

APPLICATION_STAGE = 0
SERVER_STAGE = 1

_PATIENCE_SECONDS = {APPLICATION_STAGE: 5.0, SERVER_STAGE: 10.0}


class Guard:
    """Keeps a watcher informed of the process groups to end if this process dies.

    `held_files` are descriptors the watcher keeps open until it has cleaned up: a lock that is one of them
    stays taken until nothing of the dead run is left.
    """

    def __init__(self, held_files: Iterable[int] = ()) -> None:
        self._held_files = tuple(held_files)
        self._watched: dict[int, str] = {}
        self._watcher: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._lock = threading.Lock()

    def watch(self, pid: int, stage: int, stop_signal: int) -> None:
        """Have the group led by `pid` ended with this process, lower stages first."""
        with self._lock:
            self._watched[pid] = f"watch {pid} {stage} {int(stop_signal)}\n"
            self._tell(self._watched[pid])

    def forget(self, pid: int) -> None:
        """Say that the process has ended."""
        with self._lock:
            if self._watched.pop(pid, None):
                self._tell(f"forget {pid}\n")

    def close(self) -> None:
        """End the watcher; what is still watched is ended by it."""
        with self._lock:
            if self._watcher is None or self._owner != os.getpid():
                return
            assert self._watcher.stdin
            # A watcher that was killed has left a broken pipe, and there is nothing more to tell it.
            with contextlib.suppress(BrokenPipeError):
                self._watcher.stdin.close()
            self._watcher.wait()
            self._watcher = None

    def _tell(self, line: str) -> None:
        if self._owner != os.getpid():
            # A forked copy of the parent must not speak, nor clean up, in the parent's name.
            return
        if self._watcher is None:
            self._start_watcher()
        try:
            self._write(line)
        except BrokenPipeError:
            self._start_watcher()
            self._write("".join(self._watched.values()))

    def _write(self, text: str) -> None:
        assert self._watcher
        assert self._watcher.stdin
        self._watcher.stdin.write(text.encode())
        self._watcher.stdin.flush()

    def _start_watcher(self) -> None:
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=self._held_files,
            # A kill or Ctrl-C that reaches the parent's whole group must leave the watcher alive.
            start_new_session=True,
        )


@cache
def default_guard() -> Guard:
    """Return the guard of everything this process starts outside a stack."""
    return Guard()


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended but was not collected yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        # Without /proc (macOS) the signal's answer has to do.
        return not Path("/proc/self").exists()
    return state not in "ZX"


def _follow_parent(parent: int) -> dict[int, tuple[int, int]]:
    """Read what the parent says until it is gone; return stage and stop signal of each watched process."""
    watched: dict[int, tuple[int, int]] = {}
    rest = b""
    while True:
        # A fork of the parent may hold the pipe open after the parent's death: so its id is looked at too.
        readable, _, _ = select.select([0], [], [], 1.0)
        data = os.read(0, 65536) if readable else None
        if data == b"" or (data is None and os.getppid() != parent):
            return watched
        *lines, rest = (rest + (data or b"")).split(b"\n")
        for line in lines:
            verb, pid, *details = line.split()
            if verb == b"watch":
                watched[int(pid)] = (int(details[0]), int(details[1]))
            else:
                watched.pop(int(pid), None)


def _end(pids: dict[int, int], patience: float) -> None:
    for pid, stop_signal in pids.items():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, stop_signal)
    deadline = time.monotonic() + patience
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in pids:
        # Also when the leader has ended: its pool children may not have.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def main() -> None:
    """Run as the watcher."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    watched = _follow_parent(int(sys.argv[1]))
    for stage, patience in sorted(_PATIENCE_SECONDS.items()):
        _end({pid: stop for pid, (its_stage, stop) in watched.items() if its_stage == stage}, patience)


if __name__ == "__main__":
    main()
