"""Bytes to and from a receiver, each under one deadline, and the connections kept between two requests.

Every byte must obey the deadline, in the TLS handshake too; and a connection is worth keeping, because the
next POST to the same place then needs no name, no connect and no handshake.
"""

import socket
import ssl
from threading import Lock
from time import monotonic
from typing import Protocol

from service.webhooks.guard import IPAddress

#: Seconds an idle connection is kept, and seconds after which it is not used again: names move, rules change.
IDLE_SECONDS = 30.0
AGE_LIMIT = 300.0
CHUNK = 16 * 1024
#: Bytes read from the network for one exchange, of whatever they consist.
EXCHANGE_LIMIT = 512 * 1024


class ClosedError(Exception):
    """The receiver ended the connection."""


class ProtocolError(Exception):
    """What the receiver says is not HTTP/1.1, or too much of it."""


class Wire(Protocol):
    """Bytes to and from a receiver, of which every operation ends by one deadline (monotonic seconds).

    A timeout for each call would not do: a receiver that drips a byte now and then would never meet it.
    """

    def renew(self, deadline: float) -> None:
        """Begin an exchange, which has until the deadline."""

    def receive(self, size: int) -> bytes:
        """Some bytes, or none at the end; raises ProtocolError for more than one exchange may have."""

    def send(self, data: bytes) -> None:
        """All of these bytes."""

    def is_quiet(self) -> bool:
        """Whether the connection stands and nothing is waiting on it, as it must between two exchanges."""

    def close(self) -> None:
        """End the connection."""


def open_wire(address: IPAddress, port: int, deadline: float) -> Wire:
    """Connect to an address; raises OSError, TimeoutError at the deadline (monotonic)."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(_left(deadline))
        # A number, never a name: there is nothing left to resolve.
        connection.connect((str(address), port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connection.close()
        raise
    return PlainWire(connection, deadline)


def secure_wire(below: Wire, context: ssl.SSLContext, server_name: str) -> Wire:
    """Shake hands for TLS over a wire, which is closed if that fails.

    Raises ssl.SSLError, also when the certificate is not trusted or is not of ``server_name``.
    """
    try:
        return TLSWire(below, context, server_name)
    except BaseException:
        below.close()
        raise


class PlainWire:
    """A connected socket."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._socket = connection
        self.renew(deadline)

    def renew(self, deadline: float) -> None:
        self._deadline = deadline
        # A receiver that sends faster than we look at it would keep the process busy up to the deadline.
        self._readable = EXCHANGE_LIMIT

    def receive(self, size: int) -> bytes:
        self._socket.settimeout(_left(self._deadline))
        data = self._socket.recv(size)
        self._readable -= len(data)
        if self._readable < 0:
            raise ProtocolError("the answer is too long")
        return data

    def send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._socket.settimeout(_left(self._deadline))
            rest = rest[self._socket.send(rest) :]

    def is_quiet(self) -> bool:
        try:
            self._socket.settimeout(0)
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        self._socket.close()


class TLSWire:
    """TLS in memory over a wire: so the handshake obeys the deadline, patched by eventlet or not.

    The wire below may be one of TLS itself. Raises ssl.SSLError as `secure_wire` says.
    """

    def __init__(self, below: Wire, context: ssl.SSLContext, server_name: str) -> None:
        self._below = below
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._advance()
            except ssl.SSLError:
                self._flush()  # the alert that tells the receiver why
                raise
        self._flush()

    def renew(self, deadline: float) -> None:
        self._below.renew(deadline)

    def receive(self, size: int) -> bytes:
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._advance()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def is_quiet(self) -> bool:
        # What came together with the last answer is no longer in the socket but here.
        try:
            self._tls.read(1)
        except ssl.SSLWantReadError:
            return self._below.is_quiet()
        except ssl.SSLError:
            return False
        return False

    def close(self) -> None:
        self._below.close()

    def _advance(self) -> None:
        self._flush()
        data = self._below.receive(CHUNK)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._below.send(self._outgoing.read())


def _left(deadline: float) -> float:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


class Connection:
    """A wire to a checked address, and the place it may be used for: scheme, host and port."""

    __slots__ = ("address", "made_at", "place", "used_at", "wire")

    def __init__(self, place: tuple[str, str, int], wire: Wire, address: str, made_at: float) -> None:
        self.place = place
        self.wire = wire
        self.address = address
        self.made_at = made_at
        self.used_at = made_at


class IdleConnections:
    """Connections between two requests, the last used first."""

    def __init__(self, max_idle: int) -> None:
        self._max_idle = max_idle
        self._places: dict[tuple[str, str, int], list[Connection]] = {}
        self._count = 0
        self._swept_at = monotonic()
        self._lock = Lock()

    def take(self, place: tuple[str, str, int]) -> Connection | None:
        while True:
            with self._lock:
                waiting = self._places.get(place)
                if not waiting:
                    return None
                connection = waiting.pop()
                self._count -= 1
            if _is_fresh(connection, monotonic()) and connection.wire.is_quiet():
                return connection
            connection.wire.close()

    def put(self, connection: Connection) -> None:
        now = connection.used_at = monotonic()
        stale: list[Connection] = []
        with self._lock:
            if now - self._swept_at > IDLE_SECONDS / 2:
                self._swept_at = now
                stale = self._sweep(now)
            if self._count < self._max_idle:
                self._places.setdefault(connection.place, []).append(connection)
                self._count += 1
            else:
                stale.append(connection)
        for old in stale:
            old.wire.close()

    def clear(self) -> None:
        with self._lock:
            connections = [connection for waiting in self._places.values() for connection in waiting]
            self._places.clear()
            self._count = 0
        for connection in connections:
            connection.wire.close()

    def _sweep(self, now: float) -> list[Connection]:
        stale: list[Connection] = []
        for place, waiting in list(self._places.items()):
            stale += [connection for connection in waiting if not _is_fresh(connection, now)]
            fresh = [connection for connection in waiting if _is_fresh(connection, now)]
            if fresh:
                self._places[place] = fresh
            else:
                del self._places[place]
        self._count -= len(stale)
        return stale


def _is_fresh(connection: Connection, now: float) -> bool:
    return now - connection.used_at < IDLE_SECONDS and now - connection.made_at < AGE_LIMIT
