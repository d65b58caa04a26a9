"""The console script as people and other programs run it: in a terminal, or with its output read by a program."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.acceptance.waiting import until

CARILLON = str(Path(sys.executable).with_name("carillon"))
COMMAND_SECONDS = 40
_CONTROL_SEQUENCES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
# Keys such as Ctrl-C reach who has the terminal as its own.
_TAKE_TERMINAL = "import os, sys; os.login_tty(0); os.execv(sys.argv[1], sys.argv[1:])"


class Terminal:
    """A command in a pseudo terminal of its own, 24 lines by 120 columns."""

    def __init__(self, arguments: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(self._master, (24, 120))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, CARILLON, *arguments],
            env={**environment, "TERM": "xterm-256color"},
            stdin=slave,
        )
        os.close(slave)
        self._pieces: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def raw(self) -> str:
        """Everything that was written to the terminal."""
        return b"".join(self._pieces).decode(errors="replace")

    @property
    def text(self) -> str:
        """The same without colours and movements of the cursor."""
        return _CONTROL_SEQUENCES.sub("", self.raw)

    def wait_for(self, words: str) -> None:
        """Return when the terminal shows this."""
        until(lambda: words in self.text, lambda: f"{words!r} in the terminal:\n{self.text}", COMMAND_SECONDS)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def exit_code(self) -> int:
        """The exit code, once the command has ended and all it wrote was read."""
        code = self._process.wait(COMMAND_SECONDS)
        self._reader.join(COMMAND_SECONDS)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(COMMAND_SECONDS)
        os.close(self._master)

    def _read(self) -> None:
        try:
            while piece := os.read(self._master, 4096):
                self._pieces.append(piece)
        except OSError:
            # How Linux tells that the last writer has gone.
            return


class Shell:
    """Runs commands as one person on one machine, with the settings of no server."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            **environment,
        }

    @property
    def sessions(self) -> Path:
        """Where logins are kept."""
        return self.home / "config" / "carillon" / "sessions.json"

    def run(self, *arguments: str, stdin: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
        """A command, when it has ended."""
        return subprocess.run(
            [CARILLON, *arguments],
            env=self.environment | changes,
            cwd=self.home,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command whose output is read while it runs."""
        return subprocess.Popen(
            [CARILLON, *arguments],
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def terminal(self, *arguments: str) -> Terminal:
        """A command in a terminal."""
        return Terminal(arguments, self.environment)
