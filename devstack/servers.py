"""What the servers of the local stack have in common: a loopback port, a data folder, start, stop and faults.

All ask for a password although they listen on 127.0.0.1 only: whoever may log in to this machine could
otherwise have them run programs and write files as the user who started them.
"""

from __future__ import annotations

import contextlib
import signal
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

import psutil

from devstack.errors import StackError
from devstack.guard import Guard
from devstack.ports import free_port
from devstack.processes import Process, Program, wait_until_gone

_START_PATIENCE_SECONDS = 60.0
_STOP_PATIENCE_SECONDS = 20.0
_TRIES_FOR_A_PORT = 3


class Server(ABC):
    """A server process with its data in a folder; it is stopped at the end of a `with` block."""

    name: str

    def __init__(self, folder: Path, *, port: int | None = None, guard: Guard | None = None) -> None:
        self.folder = folder.absolute()
        self.port = port or 0
        self._port_is_given = port is not None
        self.guard = guard
        self.process: Process | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The address for clients, with the password; the same after a restart."""

    @property
    def pid(self) -> int:
        """The server's process id."""
        if self.process is None:
            raise StackError(f"{self.name} has not been started.")
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the server's process is there."""
        return self.process is not None and self.process.running

    def start(self) -> None:
        """Start the server and return when it answers; what a crashed run left behind is cleared away."""
        if self.running:
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._prepare()
        for final in (False,) * (_TRIES_FOR_A_PORT - 1) + (True,):
            if not self.port:
                self.port = free_port()
            try:
                self._start_once()
            except StackError:
                # Somebody else may have taken the free port in the moment before the server did.
                if final or self._port_is_given or "ddress already in use" not in self._log_tail():
                    raise
                self.port = 0
            else:
                # Clients have been told this address, so it stays for the life of the object.
                self._port_is_given = True
                return

    def stop(self) -> None:
        """Stop the server in good order; without one, do nothing."""
        if self.process is not None:
            self.process.stop(_STOP_PATIENCE_SECONDS)

    def kill(self) -> None:
        """SIGKILL the server and its children, as a power cut would."""
        if self.process is not None:
            self.process.kill()

    def restart(self) -> None:
        """Stop the server and start it on the same port."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let the server hang: connections stay open and nothing answers."""
        self._send_to_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._send_to_all(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> None:
        """Make the data folder ready, and end a server that an earlier run left on it."""

    @abstractmethod
    def _program(self) -> Program:
        """Return the command line for the port that was chosen."""

    @abstractmethod
    def _answers(self) -> bool:
        """Tell whether the server serves clients."""

    def _start_once(self) -> None:
        self.process = Process(self._program(), log_folder=self.folder, guard=self.guard)
        self.process.start()
        deadline = time.monotonic() + _START_PATIENCE_SECONDS
        while not self._answers():
            if not self.process.running or time.monotonic() > deadline:
                self.process.kill()
                raise StackError(f"{self.name} did not start; the end of {self.process.log} says:\n{self._log_tail()}")
            time.sleep(0.02)

    def _log_tail(self) -> str:
        return self.process.log_tail(10) if self.process else ""

    def _send_to_all(self, signal_number: signal.Signals) -> None:
        assert self.process
        for process in [psutil.Process(self.process.pid), *self.process.descendants()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal_number)


def end_leftover(pid: int, data: Path, names: tuple[str, ...], stop_signal: signal.Signals) -> bool:
    """End a server that a crashed run left on this data; tell whether there was one.

    It is ended rather than taken over: its port and its settings are those of another run.
    """
    try:
        process = psutil.Process(pid)
        if not process.name().startswith(names) or Path(process.cwd()).resolve() != data.resolve():
            return False
        family = [process.pid, *(child.pid for child in process.children(recursive=True))]
        process.send_signal(stop_signal)
        if not wait_until_gone(family, 10):
            process.kill()
            wait_until_gone(family, 10)
    except psutil.AccessDenied as error:
        raise StackError(f"Process {pid} of another user holds {data}: stop it first.") from error
    except psutil.NoSuchProcess:
        return False
    return True
