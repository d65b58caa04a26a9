"""The bench's own processes together: the load, the socket client, the webhook receiver."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Self

from bench.children import Child, Message
from bench.cpu import Part
from bench.platform import Platform

MARGIN_SECONDS = 10.0


class Clients:
    """Connected clients of a platform; a `with` block leaves none behind."""

    def __init__(self, platform: Platform, connections: int) -> None:
        self._platform = platform
        self._connections = connections
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._receiver = stack.enter_context(Child("receiver"))
            self._platform.make_user(f"http://127.0.0.1:{self._receiver.hello['port']}/hook")
            self._listener = stack.enter_context(Child("listener", **self._platform.address))
            self._load = stack.enter_context(Child("load", connections=self._connections, **self._platform.address))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def groups(self) -> dict[str, tuple[int, Part]]:
        """The processes as the meter wants them."""
        children = {"bench: load": self._load, "bench: socket": self._listener, "bench: receiver": self._receiver}
        return {name: (child.pid, "itself") for name, child in children.items()}

    def forget(self) -> None:
        """Begin a new round."""
        for child in (self._listener, self._receiver):
            child.ask({"forget": True}, MARGIN_SECONDS)

    def submit(self, count: int, timeout: float, rate: int | None = None) -> Message:
        """Submit jobs; see `bench.load` for the answer."""
        return self._load.ask({"count": count, "rate": rate, "timeout": timeout}, timeout + 40)

    def arrivals(self, count: int, timeout: float) -> tuple[Message, Message]:
        """When each job came to the socket and to the receiver, once `count` have, or the time is over."""
        command: dict[str, Any] = {"expect": count, "timeout": timeout}
        for child in (self._listener, self._receiver):
            child.tell(command)
        ends = timeout + MARGIN_SECONDS
        return self._listener.answer(ends), self._receiver.answer(ends)
