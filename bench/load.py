"""The load: jobs submitted over kept HTTP connections, as fast as they are taken or at a fixed rate."""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections import Counter, deque

from bench.children import ChildError, Message, Parent

JOB = {"type": "demo-steps", "payload": {"steps": 5, "sleepMs": 0}}
PATIENCE_SECONDS = 30.0


class Connection:
    """One connection with at most one request under way."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self._buffer = bytearray()

    def send(self, request: bytes) -> None:
        """Send a request."""
        self.sent_at = time.monotonic()
        self.socket.sendall(request)

    def receive(self) -> tuple[int, bytes] | None:
        """Status and body of the answer, None as long as it is not whole."""
        data = self.socket.recv(65536)
        if not data:
            raise ChildError("the server closed a connection")
        self._buffer += data
        head_ends = self._buffer.find(b"\r\n\r\n")
        if head_ends < 0:
            return None
        head = bytes(self._buffer[:head_ends]).lower()
        end = head_ends + 4 + int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[head_ends + 4 : end])
        del self._buffer[:end]
        return int(head[9:12]), body


class Load:
    """Submits the same job again and again."""

    def __init__(self) -> None:
        self._parent = Parent()
        settings = self._parent.first()
        self._address = address = (settings["host"], settings["port"])
        self._count = settings["connections"]
        body = json.dumps(JOB, separators=(",", ":")).encode()
        self._request = (
            f"POST /api/jobs HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nAuthorization: Bearer {settings['token']}"
            f"\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._parent.say({})

    def run(self) -> None:
        """Obey until the bench is gone."""
        while True:
            for command in self._parent.commands():
                self._parent.say(self._submit(command))

    def _submit(self, command: Message) -> Message:
        """Submit `count` jobs, `rate` a second (None: as fast as they are taken), for `timeout` seconds at most.

        The answer has for each job when its request was sent and its 202 was read, how often which status came, and
        by how many seconds the latest request missed its time, which a fixed rate gives it.
        """
        count, rate = command["count"], command["rate"]
        jobs: dict[str, tuple[float, float]] = {}
        statuses: Counter[int] = Counter()
        selector = selectors.DefaultSelector()
        # Anew each time: between two rounds the server may have closed those that were idle for too long.
        connections = [Connection(self._address) for _ in range(self._count)]
        idle = deque(connections)
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        began = time.monotonic()
        ends = began + command["timeout"]
        sent, latest = 0, 0.0
        while len(idle) < len(connections) or sent < count:
            now = time.monotonic()
            if now > ends + PATIENCE_SECONDS:
                raise ChildError("the web process does not answer")
            if now > ends:
                count = sent
            while idle and sent < count and (rate is None or began + sent / rate <= now):
                if rate is not None:
                    latest = max(latest, now - began - sent / rate)
                idle.popleft().send(self._request)
                sent += 1
            wait = 1.0
            if rate is not None and sent < count and idle:
                wait = max(0.0, began + sent / rate - time.monotonic())
            for key, _ in selector.select(wait):
                answer = key.data.receive()
                if answer is None:
                    continue
                status, body = answer
                statuses[status] += 1
                if status == 202:
                    start = body.index(b'"id":"') + 6
                    jobs[body[start : start + 36].decode()] = (key.data.sent_at, time.monotonic())
                idle.append(key.data)
        selector.close()
        for connection in connections:
            connection.socket.close()
        return {
            "jobs": jobs,
            "statuses": statuses,
            "seconds": time.monotonic() - began,
            "began": began,
            "latest": latest,
        }


if __name__ == "__main__":
    Load().run()
