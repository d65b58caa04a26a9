"""One connected socket client: Socket.IO over a WebSocket, read with as little Python as will do.

A client library would take a third of a core for what is to be measured; of both protocols a listener needs little.
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import socket
import time
from collections import Counter

from bench.arrivals import Arrivals
from bench.children import ChildError, Message, Parent
from bench.frames import frames, text_frame

COMPLETED = b'42["job:completed",'
EVENT_ID = b'"eventId":"'


class Listener:
    """A socket of the user that hears everything the user's room hears."""

    def __init__(self) -> None:
        self._parent = Parent()
        settings = self._parent.first()
        self._arrivals = Arrivals(self._parent)
        self._rest = b""
        self._last: tuple[int, int] | None = None
        self._reset()
        self._socket = self._connect(settings)
        # Whoever says that it is connected is in the user's room.
        self._parent.say({"connected": True})

    def run(self) -> None:
        """Listen until the bench is gone."""
        self._socket.setblocking(False)
        selector = selectors.DefaultSelector()
        selector.register(self._parent, selectors.EVENT_READ)
        selector.register(self._socket, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(0.5):
                if key.fileobj is self._parent:
                    for command in self._parent.commands():
                        self._obey(command)
                else:
                    self._read()
            self._arrivals.look()

    def _obey(self, command: Message) -> None:
        if command.get("forget"):
            self._reset()
        self._arrivals.obey(command)

    def _reset(self) -> None:
        self._names: Counter[str] = Counter()
        self._holes = 0

    def _connect(self, settings: Message) -> socket.socket:
        connection = socket.create_connection((settings["host"], settings["port"]), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(
            f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {settings['host']}:{settings['port']}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(65536)
            if not data:
                raise ChildError("the socket was refused")
            head += data
        head, _, self._rest = head.partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise ChildError(f"the socket was refused: {head.splitlines()[0]!r}")
        self._socket = connection
        self._say(b"40" + json.dumps({"token": settings["token"]}).encode())
        while True:
            for payload in self._frames(connection.recv(65536)):
                if payload.startswith(b'42["authenticated"'):
                    return connection
                if payload.startswith(b"44"):
                    raise ChildError(f"the socket was refused: {payload!r}")

    def _say(self, text: bytes) -> None:
        self._socket.sendall(text_frame(text))

    def _read(self) -> None:
        data = self._socket.recv(262144)
        if not data:
            raise ChildError("the server closed the socket")
        now = time.monotonic()
        for payload in self._frames(data):
            if payload == b"2":
                self._say(b"3")
            elif payload.startswith(b"42"):
                self._hear(payload, now)
        self._arrivals.details = {"events": self._names, "holes": self._holes}

    def _hear(self, payload: bytes, now: float) -> None:
        name_ends = payload.index(b'"', 4)
        name = payload[4:name_ends].decode()
        self._names[name] += 1
        if payload.startswith(COMPLETED):
            start = payload.index(b'"jobId":"') + 9
            self._arrivals.note(payload[start : start + 36].decode(), now)
        if (start := payload.rfind(EVENT_ID)) >= 0:
            start += len(EVENT_ID)
            epoch, _, number = payload[start : payload.index(b'"', start)].partition(b"-")
            event = (int(epoch), int(number))
            if self._last is not None and event != (self._last[0], self._last[1] + 1):
                self._holes += 1
            self._last = event

    def _frames(self, data: bytes) -> list[bytes]:
        found, self._rest = frames(self._rest + data)
        return found


if __name__ == "__main__":
    Listener().run()
