"""Many connected clients: sockets of as many users in one process, read with as little Python as will do."""

from __future__ import annotations

import base64
import json
import os
import selectors
import socket
import time

from bench.children import ChildError, Message, Parent
from bench.frames import frames, text_frame

# So many handshakes are under way at once.
AT_ONCE = 50
CONNECT_SECONDS = 60.0
EVENT = b'42["job:progress",'
SENT = b'"total":'


class Client:
    """A socket of one user."""

    def __init__(self, address: Message, token: str) -> None:
        self.socket = socket.create_connection((address["host"], address["port"]), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""
        self.is_open = self.is_known = False
        self._token = token
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {address['host']}:{address['port']}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.socket.setblocking(False)

    def read(self) -> list[bytes]:
        """The messages that have come, of which those of the protocols are dealt with."""
        data = self.socket.recv(65536)
        if not data:
            raise ChildError("the server closed a socket")
        self.rest += data
        if not self.is_open:
            head, found, rest = self.rest.partition(b"\r\n\r\n")
            if not found:
                return []
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                raise ChildError(f"a socket was refused: {head.splitlines()[0]!r}")
            self.rest, self.is_open = rest, True
            self.socket.sendall(text_frame(b"40" + json.dumps({"token": self._token}).encode()))
        messages, self.rest = frames(self.rest)
        for message in messages:
            if message == b"2":
                self.socket.sendall(text_frame(b"3"))
            elif message.startswith(b'42["authenticated"'):
                self.is_known = True
        return messages


class Crowd:
    """All of them, and when what they heard had been sent."""

    def __init__(self) -> None:
        self._parent = Parent()
        settings = self._parent.first()
        self._clients: list[Client] = []
        self._selector = selectors.DefaultSelector()
        self._delays: list[float] = []
        began = time.monotonic()
        self._connect(settings["address"], settings["tokens"], began + CONNECT_SECONDS)
        self._parent.say({"seconds": time.monotonic() - began})

    def _connect(self, address: Message, tokens: list[str], ends: float) -> None:
        waiting = list(tokens)
        known = 0
        while known < len(tokens):
            while waiting and len(self._clients) - known < AT_ONCE:
                client = Client(address, waiting.pop())
                self._clients.append(client)
                self._selector.register(client.socket, selectors.EVENT_READ, client)
            self._look(0.5)
            known = sum(client.is_known for client in self._clients)
            if time.monotonic() > ends:
                raise ChildError(f"{known} of {len(tokens)} sockets in {CONNECT_SECONDS:.0f} s")

    def run(self) -> None:
        """Listen until the bench is gone."""
        self._selector.register(self._parent, selectors.EVENT_READ, None)
        while True:
            self._look(0.5)

    def _look(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                for _command in self._parent.commands():
                    self._parent.say({"delays": sorted(self._delays)})
                    self._delays = []
                continue
            for message in key.data.read():
                if message.startswith(EVENT):
                    at = message.index(SENT) + len(SENT)
                    self._delays.append(time.time() - float(message[at : message.index(b",", at)]))


if __name__ == "__main__":
    Crowd().run()
