"""One POST to a receiver that may be slow, broken or hostile, within fixed limits of time and size.

Of HTTP/1.1 a webhook needs little: one request with a body, a status, some headers, a short body. It is
spoken here directly on the socket that the guard has pinned, because every byte must obey one deadline, in
the TLS handshake too, and because a general client costs several times the CPU of the POST itself.
"""

import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from socket import MSG_PEEK, gaierror, socket
from threading import Lock
from time import monotonic
from typing import NamedTuple

from certifi import where as trusted_certificates

from service.webhooks.guard import BlockedAddress, Guard, Target, UnsafeURL, check_url

USER_AGENT = "Carillon-Webhooks/1.0"
#: Bytes of a response's status line and headers, and the number of informational (1xx) ones before it.
HEAD_LIMIT = 32 * 1024
INFORMATIONAL_LIMIT = 5
#: What of the response headers is kept: how many, and characters of each value.
HEADERS_KEPT = 40
HEADER_VALUE_KEPT = 256
#: Seconds; the longest Retry-After that is reported.
RETRY_AFTER_LIMIT = 3600.0
#: Seconds an idle connection is kept, and seconds after which it is not used again: names move, rules change.
IDLE_SECONDS = 30.0
AGE_LIMIT = 300.0
CHUNK = 16 * 1024

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: .*)?", re.DOTALL)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?", re.DOTALL)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "cookie",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
_ERROR_CLASSES: tuple[tuple[type[OSError], str], ...] = (
    (gaierror, "dns"),
    (ssl.SSLError, "tls"),
    (ConnectionRefusedError, "connection_refused"),
    (ConnectionError, "connection_reset"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one POST: seconds to a usable connection, seconds in all, bytes read, bytes kept."""

    connect: float = 3.0
    total: float = 10.0
    read: int = 64 * 1024
    keep: int = 4 * 1024


class OutboundRequest(NamedTuple):
    """What to post: ``headers`` carry the signature and the content type."""

    url: str
    body: bytes
    headers: Mapping[str, str]


class Timings(NamedTuple):
    """Milliseconds of each phase; None for one that was not reached, or not needed on a kept connection.

    ``first_byte`` counts from the sending of the request, ``total`` from the call.
    """

    dns: float | None
    connect: float | None
    tls: float | None
    first_byte: float | None
    total: float


class SendOutcome(NamedTuple):
    """What came of one POST.

    ``status``: the receiver's answer, None when there was none. ``error_class``: None or a stable word:
    timeout, connect_timeout, connection_refused, connection_reset, unreachable, dns, tls, blocked_address,
    protocol; timeout may come with a status, when the body did not end in time. ``error``: detail for the
    record. ``headers``: names in lower case, bounded, without cookies. ``body``: the first 4 KiB as text.
    ``address``: that was connected to. ``retry_after``: seconds, at most an hour.
    """

    status: int | None
    error_class: str | None
    error: str
    headers: dict[str, str]
    body: str
    address: str | None
    reused: bool
    timings: Timings
    retry_after: float | None


class Sender:
    """Posts webhooks over kept connections; safe for threads and for green threads.

    Make one for a process, so that its connections are shared. ``tls``: a context other than the default,
    which trusts the public authorities that ``requests`` trusts; ``max_idle``: connections kept in all.
    The environment (proxies, .netrc) is not read and cookies are not kept.
    """

    def __init__(
        self,
        guard: Guard,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        max_idle: int = 512,
    ) -> None:
        self._guard = guard
        self._limits = limits or Limits()
        self._tls = tls
        self._idle = _IdleConnections(max_idle)

    def send(self, request: OutboundRequest) -> SendOutcome:
        """Post once; redirects are not followed.

        Whatever the URL, the network or the receiver does is an outcome, not an exception.
        Raises ValueError for headers that cannot be sent or that the sender sets itself.
        """
        attempt = _Attempt(monotonic(), self._limits)
        try:
            target = check_url(request.url)
            self._post(target, _payload(target, request), attempt)
        except (UnsafeURL, BlockedAddress) as refusal:
            attempt.fail("blocked_address", refusal)
        except _ProtocolError as error:
            attempt.fail("protocol", error)
        except _ClosedError as error:
            attempt.fail("connection_reset", error)
        except OSError as error:
            attempt.fail(_error_class(error, attempt), error)
        return attempt.outcome()

    def close(self) -> None:
        """Close the kept connections; the sender can still be used."""
        self._idle.clear()

    def _post(self, target: Target, payload: bytes, attempt: "_Attempt") -> None:
        connection = self._idle.take(target[:3])
        if connection is not None:
            attempt.reused = True
            try:
                self._converse(connection, payload, attempt)
                return
            except (_ClosedError, ConnectionError, ssl.SSLError):
                # The receiver closed the idle connection just as we used it. Nothing came back, so the
                # request goes once more: at least once is the promise, and webhook-id tells a double.
                if attempt.answering:
                    raise
                attempt.reused = False
        self._converse(self._open(target, attempt), payload, attempt)

    def _open(self, target: Target, attempt: "_Attempt") -> "_Connection":
        attempt.opening = True
        started = monotonic()
        deadline = min(started + self._limits.connect, attempt.deadline)
        pinned = self._guard.connect(target, deadline)
        connected = monotonic()
        attempt.address = pinned.address
        attempt.dns = pinned.resolved_at - started
        attempt.connect = connected - pinned.resolved_at
        wire = _Wire(pinned.socket, deadline)
        if target.scheme == "https":
            try:
                wire = _TLSWire(wire, self._tls_context(), target.host.rstrip("."))
            except BaseException:
                wire.close()
                raise
            attempt.tls = monotonic() - connected
        attempt.opening = False
        return _Connection(target[:3], wire, pinned.address, connected)

    def _tls_context(self) -> ssl.SSLContext:
        # Made at first need: reading the certificates takes some 10 ms, and must come after any patching.
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=trusted_certificates())
        return self._tls

    def _converse(self, connection: "_Connection", payload: bytes, attempt: "_Attempt") -> None:
        wire = connection.wire
        wire.deadline = attempt.deadline
        attempt.address = connection.address
        sent_at = monotonic()
        clean = False
        try:
            broken: Exception | None = None
            try:
                wire.send(payload)
            except (BrokenPipeError, ConnectionResetError) as error:
                # A receiver may answer (413, say) and close without reading on: its answer counts.
                broken = error
            reader = _Reader(wire)
            try:
                reader.fill()
            except (_ClosedError, ConnectionError):
                raise broken or _ClosedError("closed without an answer") from None
            attempt.answering = True
            attempt.first_byte = monotonic() - sent_at
            clean = _read_response(reader, attempt) and broken is None
        finally:
            if clean:
                self._idle.put(connection)
            else:
                wire.close()


class _ProtocolError(Exception):
    """What the receiver says is not HTTP/1.1."""


class _ClosedError(Exception):
    """The receiver ended the connection."""


class _Attempt:
    """Notes of one POST while it is under way."""

    def __init__(self, started: float, limits: Limits) -> None:
        self.started = started
        self.deadline = started + limits.total
        self.limits = limits
        self.opening = False
        self.answering = False
        self.reused = False
        self.address: str | None = None
        self.dns: float | None = None
        self.connect: float | None = None
        self.tls: float | None = None
        self.first_byte: float | None = None
        self.status: int | None = None
        self.fields: dict[str, str] = {}
        self.body = bytearray()
        self.error_class: str | None = None
        self.error = ""

    def fail(self, error_class: str, error: Exception) -> None:
        self.error_class = error_class
        self.error = (str(error) or type(error).__name__)[:300].replace("\0", "\ufffd")

    def outcome(self) -> SendOutcome:
        retry_after = self.fields.get("retry-after")
        # NUL is the one character that the database's text cannot hold.
        excerpt = bytes(self.body[: self.limits.keep]).decode("utf-8", "replace").replace("\0", "\ufffd")
        return SendOutcome(
            self.status,
            self.error_class,
            self.error,
            _kept(self.fields),
            excerpt,
            self.address,
            self.reused,
            Timings(
                _ms(self.dns),
                _ms(self.connect),
                _ms(self.tls),
                _ms(self.first_byte),
                round((monotonic() - self.started) * 1000, 2),
            ),
            None if retry_after is None else parse_retry_after(retry_after, time.time()),
        )


def parse_retry_after(value: str, now: float) -> float | None:
    """Read a Retry-After header, seconds or an HTTP date, as seconds from ``now`` (unix), 0 to 3600.

    None when it is neither. Source: RFC 9110, 10.2.3.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), RETRY_AFTER_LIMIT)
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        seconds = date.timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_LIMIT)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)


def _kept(fields: dict[str, str]) -> dict[str, str]:
    kept = {}
    for name, value in fields.items():
        if name != "set-cookie":
            kept[name[:HEADER_VALUE_KEPT]] = value[:HEADER_VALUE_KEPT]
            if len(kept) == HEADERS_KEPT:
                break
    return kept


def _error_class(error: OSError, attempt: _Attempt) -> str:
    if isinstance(error, TimeoutError):
        return "connect_timeout" if attempt.opening else "timeout"
    return next((word for kind, word in _ERROR_CLASSES if isinstance(error, kind)), "unreachable")


def _payload(target: Target, request: OutboundRequest) -> bytes:
    lines = [
        f"POST {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nUser-Agent: {USER_AGENT}\r\n"
        f"Accept: */*\r\nAccept-Encoding: identity\r\nContent-Length: {len(request.body)}\r\n"
    ]
    for name, value in request.headers.items():
        if not _may_send(name) or _VALUE.fullmatch(value) is None:
            raise ValueError(f"header {name!r} cannot be sent")
        lines.append(f"{name}: {value}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1") + request.body


@lru_cache(maxsize=256)
def _may_send(name: str) -> bool:
    return _TOKEN.fullmatch(name) is not None and name.lower() not in _OWN_HEADERS


class _Wire:
    """A connected socket of which every operation ends by one deadline (monotonic seconds).

    A timeout for each call would not do: a receiver that drips a byte now and then would never meet it.
    """

    def __init__(self, connection: socket, deadline: float) -> None:
        self._socket = connection
        self.deadline = deadline

    def receive(self, size: int) -> bytes:
        """Some bytes, or none at the end."""
        self._limit()
        return self._socket.recv(size)

    def send(self, data: bytes) -> None:
        self._limit()
        sent = self._socket.send(data)
        if sent < len(data):
            rest = memoryview(data)
            while rest := rest[sent:]:
                self._limit()
                sent = self._socket.send(rest)

    def is_quiet(self) -> bool:
        """Whether the connection stands and nothing is waiting on it, as it must between two requests."""
        try:
            self._socket.settimeout(0)
            self._socket.recv(1, MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        self._socket.close()

    def _limit(self) -> None:
        left = self.deadline - monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left)


class _TLSWire(_Wire):
    """TLS in memory over a wire: so the handshake obeys the deadline, patched by eventlet or not.

    Raises ssl.SSLError, also when the certificate is not trusted or is not of ``server_name``.
    """

    def __init__(self, wire: _Wire, context: ssl.SSLContext, server_name: str) -> None:
        super().__init__(wire._socket, wire.deadline)
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

    def _advance(self) -> None:
        self._flush()
        data = super().receive(CHUNK)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        if self._outgoing.pending:
            super().send(self._outgoing.read())


class _Connection:
    """A wire to a checked address, and the place it may be used for: scheme, host and port."""

    __slots__ = ("address", "made_at", "place", "used_at", "wire")

    def __init__(self, place: tuple[str, str, int], wire: _Wire, address: str, made_at: float) -> None:
        self.place = place
        self.wire = wire
        self.address = address
        self.made_at = made_at
        self.used_at = made_at


class _IdleConnections:
    """Connections between two requests, the last used first."""

    def __init__(self, max_idle: int) -> None:
        self._max_idle = max_idle
        self._places: dict[tuple[str, str, int], list[_Connection]] = {}
        self._count = 0
        self._swept_at = monotonic()
        self._lock = Lock()

    def take(self, place: tuple[str, str, int]) -> _Connection | None:
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

    def put(self, connection: _Connection) -> None:
        now = connection.used_at = monotonic()
        stale: list[_Connection] = []
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

    def _sweep(self, now: float) -> list[_Connection]:
        stale: list[_Connection] = []
        for place, waiting in list(self._places.items()):
            stale += [connection for connection in waiting if not _is_fresh(connection, now)]
            fresh = [connection for connection in waiting if _is_fresh(connection, now)]
            if fresh:
                self._places[place] = fresh
            else:
                del self._places[place]
        self._count -= len(stale)
        return stale


def _is_fresh(connection: _Connection, now: float) -> bool:
    return now - connection.used_at < IDLE_SECONDS and now - connection.made_at < AGE_LIMIT


class _Reader:
    """Bytes of a response as they come; ``buffer`` holds what is read and not yet taken."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        self.buffer = bytearray()

    def fill(self) -> None:
        data = self._wire.receive(CHUNK)
        if not data:
            raise _ClosedError("closed in the middle of the answer")
        self.buffer += data

    def head(self) -> str:
        """The status line and the headers."""
        searched = 0
        while True:
            if not self.buffer.startswith(b"HTTP/1."[: len(self.buffer)]):
                raise _ProtocolError("the answer is not HTTP/1")
            end = _HEAD_END.search(self.buffer, searched)
            if (end.end() if end else len(self.buffer)) > HEAD_LIMIT:
                raise _ProtocolError("the headers are too large")
            if end:
                head = self.buffer[: end.start()].decode("latin-1")
                del self.buffer[: end.end()]
                return head
            searched = max(0, len(self.buffer) - 3)
            self.fill()

    def line(self) -> bytes:
        """One line of the framing of chunks, without its end."""
        while (end := self.buffer.find(b"\n", 0, 1024)) < 0:
            if len(self.buffer) >= 1024:
                raise _ProtocolError("a chunk's line is too long")
            self.fill()
        line = bytes(self.buffer[:end]).removesuffix(b"\r")
        del self.buffer[: end + 1]
        return line

    def move(self, size: int, into: bytearray) -> None:
        """Take exactly ``size`` bytes; at an early end the bytes there are, and _ClosedError."""
        while True:
            part = self.buffer[:size]
            into += part
            del self.buffer[: len(part)]
            size -= len(part)
            if not size:
                return
            self.fill()


def _read_response(reader: _Reader, attempt: _Attempt) -> bool:
    """Note the answer; True when it was read to its end and the connection can be used again."""
    for _ in range(INFORMATIONAL_LIMIT + 1):
        if not reader.buffer:
            reader.fill()
        version, status, fields = _parse_head(reader.head())
        if status >= 200:
            break
        if status == 101:
            raise _ProtocolError("an upgrade was not asked for")
    else:
        raise _ProtocolError("too many informational answers")
    attempt.status = status
    attempt.fields = fields
    length = _content_length(fields)
    try:
        complete = _read_body(reader, attempt, length)
    except (_ClosedError, _ProtocolError, ConnectionError, ssl.SSLError):
        # The status was the answer; a body cut short does not take it back.
        return False
    tokens = fields.get("connection", "").lower()
    kept = "close" not in tokens if version == 1 else "keep-alive" in tokens
    # Bytes that follow the answer were not asked for: the next request would take them for its own.
    return complete and kept and not reader.buffer


def _parse_head(head: str) -> tuple[int, int, dict[str, str]]:
    lines = head.split("\n")
    start = _STATUS_LINE.fullmatch(lines[0].rstrip("\r"))
    if start is None or "\0" in head:
        raise _ProtocolError("the answer is not HTTP/1")
    fields: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or _TOKEN.fullmatch(name) is None:
            continue  # folded or broken: nothing that matters here is ever so written
        name, value = name.lower(), value.strip()
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return int(start[1]), int(start[2]), fields


def _content_length(fields: dict[str, str]) -> int | None:
    text = fields.get("content-length")
    if text is None or "transfer-encoding" in fields:
        return None
    values = {value.strip() for value in text.split(",")}
    value = values.pop()
    if values or not value.isascii() or not value.isdigit() or len(value) > 18:
        raise _ProtocolError("bad Content-Length")
    return int(value)


def _read_body(reader: _Reader, attempt: _Attempt, length: int | None) -> bool:
    """Read up to the limit; True when the body ended before it and its end is known from its framing."""
    body, limit = attempt.body, attempt.limits.read
    if attempt.status in (204, 304):
        return True
    if length is not None:
        reader.move(min(length, limit), body)
        return length <= limit
    coding = attempt.fields.get("transfer-encoding", "").lower()
    if coding.endswith("chunked"):
        # Both framings at once is how requests are smuggled: read, but not trusted with another request.
        return _read_chunks(reader, body, limit) and "content-length" not in attempt.fields
    reader.move(limit, body)
    return False


def _read_chunks(reader: _Reader, body: bytearray, limit: int) -> bool:
    while True:
        size_line = _CHUNK_SIZE.fullmatch(reader.line())
        if size_line is None:
            raise _ProtocolError("bad chunk")
        size = int(size_line[1], 16)
        if size == 0:
            break
        reader.move(min(size, limit - len(body)), body)
        if len(body) >= limit:
            return False
        if reader.line():
            raise _ProtocolError("bad chunk")
    # Trailers are not kept; more of them than this and the connection is not worth keeping either.
    return any(not reader.line() for _ in range(32))
