"""The way out through an HTTP proxy: a tunnel to one address, asked for with CONNECT (RFC 9110, 9.3.6).

The proxy is told an address that the guard has checked, never a name: a second resolver could answer otherwise.
So a plain http target goes through a tunnel too. The proxy's own address is the operator's and is not judged.
"""

import base64
import ipaddress
import ssl
from urllib.parse import unquote, urlsplit

from certifi import where as trusted_certificates

from service.webhooks.guard import Guard, IPAddress, Target
from service.webhooks.http1 import USER_AGENT, Reader, read_head
from service.webhooks.wire import ClosedError, ProtocolError, Wire, open_wire, secure_wire

_BAD_GATEWAY = 502
_GATEWAY_TIMEOUT = 504

_ANYWHERE = Guard([ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")])


class ProxyError(OSError):
    """The proxy itself failed, so that the receiver was not asked.

    The message says neither where the proxy is nor how one logs in to it: the endpoint's owner may read it.
    """


class Proxy:
    """An HTTP proxy; safe for threads and green threads.

    ``url``: ``http://[user:password@]host:port`` or ``https://…``, of the form that the settings let through,
    user and password percent-encoded. TLS to it trusts what the system trusts, as its authority is rarely a
    public one, and the public authorities.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._place = Target(parts.scheme, parts.hostname or "", parts.port or 0, "/")
        self._credentials = _credentials(parts.username, parts.password)
        self._tls: ssl.SSLContext | None = None

    def open_wire(self, address: IPAddress, port: int, deadline: float) -> Wire:
        """Open a tunnel to a checked address.

        Raises ProxyError for a fault of the proxy, silence up to the deadline (monotonic) among them; OSError
        when it could not reach the address (502) and TimeoutError when that took it too long (504).
        """
        wire = self._reach(deadline)
        try:
            _judge(self._ask(wire, address, port))
        except BaseException:
            wire.close()
            raise
        return wire

    def _reach(self, deadline: float) -> Wire:
        try:
            wire = _ANYWHERE.connect(self._place, deadline, open_wire).way
            if self._place.scheme == "https":
                wire = secure_wire(wire, self._tls_context(), self._place.host)
        except (OSError, ProtocolError) as error:
            raise ProxyError(f"the proxy cannot be reached: {type(error).__name__}") from error
        return wire

    def _ask(self, wire: Wire, address: IPAddress, port: int) -> int:
        place = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        request = f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\nUser-Agent: {USER_AGENT}\r\n{self._credentials}\r\n"
        try:
            wire.send(request.encode("latin-1"))
            reader = Reader(wire)
            status = read_head(reader).status
        except (OSError, ProtocolError, ClosedError) as error:
            raise ProxyError(f"the proxy gave no answer: {type(error).__name__}") from error
        if _is_success(status) and reader.buffer:
            # The receiver speaks only when it is spoken to: this would pass for its answer.
            raise ProxyError("the proxy said more than its answer")
        return status

    def _tls_context(self) -> ssl.SSLContext:
        # Made at first need: reading the certificates takes some 10 ms, and must come after any patching.
        if self._tls is None:
            context = ssl.create_default_context()
            context.load_verify_locations(cafile=trusted_certificates())
            self._tls = context
        return self._tls


def _credentials(user: str | None, password: str | None) -> str:
    """The header line that logs in, with its end; empty without a user."""
    if user is None:
        return ""
    pair = f"{unquote(user)}:{unquote(password or '')}".encode()
    return f"Proxy-Authorization: Basic {base64.b64encode(pair).decode('ascii')}\r\n"


def _judge(status: int) -> None:
    if status == _BAD_GATEWAY:
        raise OSError("the proxy could not reach the address")
    if status == _GATEWAY_TIMEOUT:
        raise TimeoutError("the proxy could not reach the address in time")
    if not _is_success(status):
        raise ProxyError(f"the proxy answered {status}")


def _is_success(status: int) -> bool:
    return 200 <= status < 300
