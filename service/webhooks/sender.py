"""One POST to a receiver that may be slow, broken or hostile, within fixed limits of time and size.

It is spoken directly on the socket that the guard has pinned, by ``wire`` and ``http1``, because every byte
must obey one deadline, and because a general client costs several times the CPU of the POST itself.
"""

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from socket import gaierror
from time import monotonic
from typing import NamedTuple

from certifi import where as trusted_certificates

from service.webhooks.guard import BlockedAddress, Guard, Target, UnsafeURL, check_url
from service.webhooks.http1 import Reader, parse_retry_after, read_response, request_bytes
from service.webhooks.proxy import Proxy, ProxyError
from service.webhooks.wire import ClosedError, Connection, IdleConnections, ProtocolError, open_wire, secure_wire

#: What of the response headers is kept: how many, and characters of each value.
HEADERS_KEPT = 40
HEADER_VALUE_KEPT = 256

_ERROR_CLASSES: tuple[tuple[type[OSError], str], ...] = (
    (ProxyError, "proxy"),
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
    protocol, and proxy for a fault of our own proxy, which says nothing of the receiver; timeout may come with
    a status, when the body did not end in time. ``error``: detail for the record. ``headers``: names in lower
    case, bounded, without cookies. ``body``: the first 4 KiB as text. ``address``: that was connected to, by
    the proxy if there is one. ``retry_after``: seconds, at most an hour.
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
    which trusts the public authorities that ``requests`` trusts; ``max_idle``: connections kept in all;
    ``proxy``: by which everything leaves. The environment (proxies, .netrc) is not read and cookies are not kept.
    """

    def __init__(
        self,
        guard: Guard,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        max_idle: int = 512,
        proxy: Proxy | None = None,
    ) -> None:
        self._guard = guard
        self._limits = limits or Limits()
        self._tls = tls
        self._idle = IdleConnections(max_idle)
        self._dial = open_wire if proxy is None else proxy.open_wire

    def send(self, request: OutboundRequest) -> SendOutcome:
        """Post once; redirects are not followed.

        Whatever the URL, the network or the receiver does is an outcome, not an exception.
        Raises ValueError for headers that cannot be sent or that the sender sets itself.
        """
        attempt = _Attempt(monotonic(), self._limits)
        try:
            target = check_url(request.url)
            self._post(target, request_bytes(target, request.headers, request.body), attempt)
        except (UnsafeURL, BlockedAddress) as refusal:
            attempt.fail("blocked_address", refusal)
        except ProtocolError as error:
            attempt.fail("protocol", error)
        except ClosedError as error:
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
            except (ClosedError, ConnectionError, ssl.SSLError):
                # The receiver closed the idle connection just as we used it. Nothing came back, so the
                # request goes once more: at least once is the promise, and webhook-id tells a double.
                if attempt.answering:
                    raise
                attempt.reused = False
        self._converse(self._open(target, attempt), payload, attempt)

    def _open(self, target: Target, attempt: "_Attempt") -> Connection:
        attempt.opening = True
        started = monotonic()
        deadline = min(started + self._limits.connect, attempt.deadline)
        pinned = self._guard.connect(target, deadline, self._dial)
        connected = monotonic()
        attempt.address = pinned.address
        attempt.dns = pinned.resolved_at - started
        attempt.connect = connected - pinned.resolved_at
        wire = pinned.way
        if target.scheme == "https":
            wire.renew(deadline)
            wire = secure_wire(wire, self._tls_context(), target.host.rstrip("."))
            attempt.tls = monotonic() - connected
        attempt.opening = False
        return Connection(target[:3], wire, pinned.address, connected)

    def _tls_context(self) -> ssl.SSLContext:
        # Made at first need: reading the certificates takes some 10 ms, and must come after any patching.
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=trusted_certificates())
        return self._tls

    def _converse(self, connection: Connection, payload: bytes, attempt: "_Attempt") -> None:
        wire = connection.wire
        wire.renew(attempt.deadline)
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
            reader = Reader(wire)
            try:
                reader.fill()
            except (ClosedError, ConnectionError):
                raise broken or ClosedError("closed without an answer") from None
            attempt.answering = True
            attempt.first_byte = monotonic() - sent_at
            clean = read_response(reader, attempt, self._limits.read) and broken is None
        finally:
            if clean:
                self._idle.put(connection)
            else:
                wire.close()


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
