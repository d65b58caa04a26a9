"""Programs, and the processes that run them: start, signal, stop, kill, restart, one log file each."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from devstack.errors import StackError
from devstack.guard import APPLICATION_STAGE, Guard, default_guard, is_alive

STOP_PATIENCE_SECONDS = 15.0
# Running jobs have so long to finish; a worker needs up to 5 s more to hand back what has not, and a moment to end.
SHUTDOWN_GRACE_SECONDS = 8

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Program:
    """A command line and how its process is to be treated."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    essential: bool = True
    stop_signal: signal.Signals = signal.SIGTERM
    stage: int = APPLICATION_STAGE
    user: int | None = None
    group: int | None = None


class Process:
    """One program, run as a process group of its own, whose output goes to `<log_folder>/<name>.log`."""

    def __init__(
        self,
        program: Program,
        *,
        log_folder: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.program = program
        self.log = log_folder / f"{program.name}.log"
        self._environment = {**(os.environ if environment is None else environment), **program.environment}
        self._folder = folder
        self._guard = guard or default_guard()
        self._child: subprocess.Popen[bytes] | None = None
        self._cleared_away = True

    @property
    def name(self) -> str:
        """The program's name."""
        return self.program.name

    @property
    def pid(self) -> int:
        """The process id, which is also its group's; kept after the process has ended."""
        if self._child is None:
            raise StackError(f"{self.name} has not been started.")
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._child is not None and self._child.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for the signal that ended it; None while it runs."""
        return None if self._child is None else self._child.poll()

    def start(self) -> None:
        """Start the process; its former log, if another run left one, is kept as `.log.1`."""
        if self.running:
            raise StackError(f"{self.name} runs already (process {self.pid}).")
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._child is None and self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        with open(self.log, "ab", opener=_open_private) as log:
            # A file, not a pipe: the process must neither block nor die when nobody reads what it says.
            self._child = subprocess.Popen(
                self.program.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._folder,
                user=self.program.user,
                group=self.program.group,
                extra_groups=None if self.program.user is None else [],
                start_new_session=True,
            )
        self._cleared_away = False
        self._guard.watch(self._child.pid, self.program.stage, self.program.stop_signal)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once the process has ended; raise `subprocess.TimeoutExpired` otherwise."""
        assert self._child
        return self._child.wait(timeout)

    def descendants(self) -> list[psutil.Process]:
        """Return the processes below this one, such as Celery's pool children, oldest first."""
        try:
            return list(psutil.Process(self.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return []

    def send(self, signal_number: int) -> None:
        """Send a signal to the process alone."""
        if self.running:
            os.kill(self.pid, signal_number)

    def send_to_group(self, signal_number: int) -> None:
        """Send a signal to the process and to all that it started (SIGSTOP freezes a whole worker)."""
        if self._cleared_away:
            # The number may be another group's by now.
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal_number)

    def stop(self, patience: float = STOP_PATIENCE_SECONDS) -> None:
        """Ask the process to end, kill it after `patience` seconds, and leave nothing that it started."""
        stop_all([self], patience)

    def kill(self) -> None:
        """SIGKILL the process and all that it started, as a power cut would."""
        if self._child is not None:
            self._clear_away(self.descendants())

    def restart(self, patience: float = STOP_PATIENCE_SECONDS) -> None:
        """Stop the process and start it anew."""
        self.stop(patience)
        self.start()

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of the log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _clear_away(self, descendants: list[psutil.Process]) -> None:
        assert self._child
        if self._cleared_away:
            return
        self.send_to_group(signal.SIGKILL)
        for process in descendants:
            # PostgreSQL's children and tools that jobs start may lead groups of their own.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._child.wait()
        wait_until_gone([process.pid for process in descendants], 5)
        self._guard.forget(self._child.pid)
        self._cleared_away = True


def _open_private(path: str, flags: int) -> int:
    # What processes log is nobody else's business on a machine with several users.
    return os.open(path, flags, 0o600)


def wait_until_gone(pids: list[int], timeout: float) -> bool:
    """Wait for processes that are not this one's children; tell whether they have ended in time."""
    deadline = time.monotonic() + timeout
    while any(is_alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def stop_all(
    processes: list[Process],
    patience: float = STOP_PATIENCE_SECONDS,
    while_waiting: Callable[[], None] = lambda: None,
) -> None:
    """Ask all the processes to end at once; kill those that are still there after `patience` seconds."""
    families = {process: process.descendants() for process in processes if process._child is not None}
    for process in families:
        process.send(process.program.stop_signal)
        # One that was frozen by SIGSTOP hears nothing else.
        process.send_to_group(signal.SIGCONT)
    deadline = time.monotonic() + patience
    while any(process.running for process in families) and time.monotonic() < deadline:
        while_waiting()
        time.sleep(_POLL_SECONDS)
    for process, family in families.items():
        process._clear_away([*family, *process.descendants()])
    while_waiting()
