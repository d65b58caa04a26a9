"""A TCP line between a client and a server, which a test can cut."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Self
from urllib.parse import urlsplit

_AT_ONCE = 65_536
# Closed with this a connection is reset: what was on its way is lost, and both ends are told at once.
_RESET = struct.pack("ii", 1, 0)


class Line:
    """Forwards connections to a web node; a client behind it can be cut off in the middle of anything."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._server = (address.hostname, address.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.cuts = 0

    def cut(self) -> int:
        """Reset every connection there is at this moment; how many there were."""
        with self._lock:
            ends = list(self._ends)
        for end in ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                # Wakes the thread that reads it, which closes it; nothing goes over the wire yet.
                end.shutdown(socket.SHUT_RD)
        self.cuts += bool(ends)
        return len(ends) // 2

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            for source, target in ((client, server), (server, client)):
                with self._lock:
                    self._ends.add(source)
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_AT_ONCE):
                target.sendall(data)
        with self._lock:
            self._ends.discard(source)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RD)
        source.close()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # A closed listener does not wake who waits on it.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
