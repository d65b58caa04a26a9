"""The endpoints of the webhooks' bench: many ports in one thread, each of which does what the path says.

`/well` answers 200 at once, `/slow` after 50 ms, `/broken` 500 at once, `/hang` takes the request and never answers.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import Counter, deque

from bench.arrivals import Arrivals
from bench.children import Message, Parent

SLOW_SECONDS = 0.05
# As chatty as servers are: the answer's headers and body are kept with each attempt.
ANSWER = (
    b"HTTP/1.1 %s\r\nServer: bench\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n"
    b"Content-Length: %d\r\n\r\n%s"
)
OK = ANSWER % (b"200 OK", 11, b'{"ok":true}')
FAULT = ANSWER % (b"500 Internal Server Error", 12, b'{"ok":false}')
IDLE_SECONDS = 0.5


class Endpoints:
    """Endpoints on free ports; what is answered with 2xx is noted by its `webhook-id`, the others are counted."""

    def __init__(self) -> None:
        self._parent = Parent()
        count = self._parent.first()["ports"]
        self._arrivals = Arrivals(self._parent)
        self._posts: Counter[str] = Counter()
        self._selector = selectors.DefaultSelector()
        self._buffers: dict[socket.socket, bytearray] = {}
        # What is answered later, by its time.
        self._waiting: deque[tuple[float, socket.socket]] = deque()
        self._listeners = [socket.create_server(("127.0.0.1", 0), backlog=1024) for _ in range(count)]

    def run(self) -> None:
        """Serve until the bench is gone."""
        self._selector.register(self._parent, selectors.EVENT_READ)
        for listener in self._listeners:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, listener)
        self._parent.say({"ports": [listener.getsockname()[1] for listener in self._listeners]})
        while True:
            wait = self._waiting[0][0] - time.monotonic() if self._waiting else IDLE_SECONDS
            for key, _ in self._selector.select(max(0.0, wait)):
                if key.fileobj is self._parent:
                    for command in self._parent.commands():
                        self._obey(command)
                elif key.data is not None:
                    self._accept(key.data)
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._read(key.fileobj)
            while self._waiting and self._waiting[0][0] <= time.monotonic():
                self._send(self._waiting.popleft()[1], OK)
            self._arrivals.look()

    def _obey(self, command: Message) -> None:
        if command.get("forget"):
            self._posts.clear()
        self._arrivals.obey(command)

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffers[connection] = bytearray()
        self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self._selector.unregister(connection)
            del self._buffers[connection]
            connection.close()
            return
        now = time.monotonic()
        buffer = self._buffers[connection]
        buffer += data
        head_ends = buffer.find(b"\r\n\r\n")
        if head_ends < 0:
            return
        head = bytes(buffer[:head_ends])
        if len(buffer) >= head_ends + 4 + int(_header(head, b"content-length")):
            buffer.clear()
            self._answer(connection, head, now)

    def _answer(self, connection: socket.socket, head: bytes, now: float) -> None:
        path = head.split(b" ", 2)[1].decode()
        self._posts[path] += 1
        self._arrivals.details = {"posts": self._posts}
        if path.startswith("/broken"):
            self._send(connection, FAULT)
        elif not path.startswith("/hang"):
            self._arrivals.note(_header(head, b"webhook-id").decode(), now)
            if path.startswith("/slow"):
                self._waiting.append((now + SLOW_SECONDS, connection))
            else:
                self._send(connection, OK)

    def _send(self, connection: socket.socket, answer: bytes) -> None:
        # Nobody is there any more where the time was up.
        if connection in self._buffers:
            connection.send(answer)


def _header(head: bytes, name: bytes) -> bytes:
    """The value of a header that is there."""
    return head.lower().partition(b"\r\n" + name + b":")[2].split(b"\r\n", 1)[0].strip()


if __name__ == "__main__":
    Endpoints().run()
