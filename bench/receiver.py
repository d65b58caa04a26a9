"""A webhook receiver: HTTP/1.1 with kept connections, one thread, answers 200 at once and notes the time."""

from __future__ import annotations

import json
import selectors
import socket
import time

from bench.arrivals import Arrivals
from bench.children import Parent

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Receiver:
    """The receiver on a free port."""

    def __init__(self) -> None:
        self._parent = Parent()
        self._parent.first()
        self._arrivals = Arrivals(self._parent)
        self._selector = selectors.DefaultSelector()
        self._buffers: dict[socket.socket, bytearray] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)

    def run(self) -> None:
        """Serve until the bench is gone."""
        self._selector.register(self._parent, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._parent.say({"port": self._listener.getsockname()[1]})
        while True:
            for key, _ in self._selector.select(0.5):
                if key.fileobj is self._parent:
                    for command in self._parent.commands():
                        self._arrivals.obey(command)
                elif key.fileobj is self._listener:
                    self._accept()
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._read(key.fileobj)
            self._arrivals.look()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
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
        while (head_end := buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(buffer[:head_end]).lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            end = head_end + 4 + length
            if len(buffer) < end:
                return
            document = json.loads(buffer[head_end + 4 : end])
            del buffer[:end]
            connection.send(ANSWER)
            self._arrivals.note(document["data"]["id"], now)


if __name__ == "__main__":
    Receiver().run()
