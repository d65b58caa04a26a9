"""The bench's own processes and how it talks with them: one line of JSON a command, one an answer.

A child ends when its standard input does, so none outlives the bench, whatever becomes of that.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from devstack.settings import PROJECT_FOLDER

Message = dict[str, Any]


class ChildError(Exception):
    """A process of the bench ended or did not answer in time."""


class Child:
    """A module of the bench that runs as a process of its own: `Child("receiver")`."""

    def __init__(
        self, module: str, environment: Mapping[str, str] | None = None, *, patience: float = 20.0, **settings: Any
    ) -> None:
        """`environment` is added to the bench's own; `patience` are the seconds that it may take to begin."""
        self.module = module
        self._buffer = bytearray()
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"bench.{module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=PROJECT_FOLDER,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        self.hello = self.ask(settings, patience)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def ask(self, command: Message, timeout: float) -> Message:
        """Send a command and return the answer."""
        self.tell(command)
        return self.answer(timeout)

    def tell(self, command: Message) -> None:
        """Send a command whose answer `answer` returns later."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self, timeout: float) -> Message:
        """Return the next answer; raise `ChildError` if there is none in `timeout` seconds."""
        assert self._process.stdout
        ends = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            readable, _, _ = select.select([self._process.stdout], [], [], max(0.0, ends - time.monotonic()))
            data = os.read(self._process.stdout.fileno(), 1 << 20) if readable else None
            if not data:
                raise ChildError(f"bench.{self.module} {'ended' if data == b'' else 'did not answer in time'}")
            self._buffer += data
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        answer: Message = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class Parent:
    """The bench as its child sees it."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def fileno(self) -> int:
        """What a selector waits for."""
        return 0

    def commands(self) -> Iterator[Message]:
        """The commands that have come; SystemExit when the bench is gone."""
        data = os.read(0, 1 << 16)
        if not data:
            raise SystemExit
        *lines, rest = bytes(self._buffer + data).split(b"\n")
        self._buffer = bytearray(rest)
        for line in lines:
            yield json.loads(line)

    def first(self) -> Message:
        """The settings this child was started with."""
        while True:
            for command in self.commands():
                return command

    def say(self, answer: Message) -> None:
        """Answer a command."""
        data = memoryview(json.dumps(answer).encode() + b"\n")
        while data:
            data = data[os.write(1, data) :]
