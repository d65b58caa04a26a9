"""Show what several log files say, line by line, each with its process's name and colour."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from honcho.colour import get_colours
from honcho.printer import Message, Printer

_CHUNK_BYTES = 65536


class LogFollower:
    """Prints what was added to log files since it was last asked."""

    def __init__(self, names: list[str]) -> None:
        self._printer = Printer(width=max(len(name) for name in [*names, "stack"]))
        self._colours = dict(zip(names, get_colours(), strict=False))
        self._offsets: dict[Path, int] = {}
        self._rests: dict[Path, bytes] = {}

    def say(self, text: str) -> None:
        """Print a line of the stack's own."""
        self._print("stack", text)

    def show(self, name: str, log: Path) -> None:
        """Print the whole lines that were added to a log."""
        try:
            with log.open("rb") as stream:
                stream.seek(self._offsets.get(log, 0))
                while data := stream.read(_CHUNK_BYTES):
                    self._offsets[log] = stream.tell()
                    *lines, self._rests[log] = (self._rests.get(log, b"") + data).split(b"\n")
                    for line in lines:
                        self._print(name, line.decode(errors="replace"))
        except FileNotFoundError:
            return

    def _print(self, name: str, text: str) -> None:
        colour = self._colours.get(name)
        # honcho splits at every kind of line end, and would show nothing for an empty line.
        message = Message(type="line", data=text or " ", time=datetime.now(), name=name, colour=colour)
        self._printer.write(message)
