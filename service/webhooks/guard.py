"""Which addresses a webhook may reach: the form of its URL, and the address it is connected to.

The URL of a webhook is a stranger's text, and the machine that posts to it stands inside the network. So a
name is resolved once, all its addresses are judged, and the socket goes to one of those very addresses: a
name server that answers differently the second time (DNS rebinding) is never asked a second time.
"""

import ipaddress
import re
import socket
import threading
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from time import monotonic
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

import idna

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
#: From a host name and a port to the texts of its addresses, in the order to try them; raises OSError.
Resolver = Callable[[str, int], Sequence[str]]
Way = TypeVar("Way")
#: From a checked address, a port and a deadline (monotonic) to a way there; raises OSError.
Dial = Callable[[IPAddress, int, float], Way]

MAX_URL_LENGTH = 2048
#: A name with more addresses than this is tried at the first ones only (all of them are judged).
MAX_ADDRESSES_TRIED = 4

_DEFAULT_PORTS = {"http": 80, "https": 443}
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:@%\\]+)(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

# Sources: the IANA special-purpose registries for IPv4 and IPv6 (RFC 6890 and its updates).
_REFUSED_V4 = tuple(
    (ipaddress.IPv4Network(network), word)
    for network, word in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared"),  # carrier-grade NAT, and the metadata service of one cloud
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "metadata"),  # a public address that one cloud answers from inside
        ("169.254.169.254/32", "metadata"),
        ("169.254.0.0/16", "link_local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "reserved"),
        ("192.52.193.0/24", "reserved"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "reserved"),
        ("198.18.0.0/15", "benchmark"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
# Of IPv6 only global unicast is allocated; whatever lies outside it is refused without being named. The
# names below are for the reason; those inside 2000::/3 are also what makes the refusal.
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    (ipaddress.IPv6Network(network), word)
    for network, word in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "ipv4_mapped"),
        ("::/96", "ipv4_compatible"),
        ("64:ff9b::/96", "nat64"),
        ("64:ff9b:1::/48", "nat64"),
        ("2001::/32", "teredo"),
        ("2001:2::/48", "benchmark"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("2620:4f:8000::/48", "reserved"),
        ("3fff::/20", "documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link_local"),
        ("fec0::/10", "site_local"),
        ("ff00::/8", "multicast"),
    )
)


class UnsafeURL(ValueError):
    """The URL has a form that no webhook may have; ``reason`` is a stable word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BlockedAddress(Exception):
    """An address a webhook may not reach; ``reason`` is the kind of its range.

    The message keeps the address to itself: the endpoint's owner reads it, and could map by it what names
    mean inside the network.
    """

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"{reason} address")
        self.address = address
        self.reason = reason


class Target(NamedTuple):
    """A URL taken apart; ``host`` is in ASCII without brackets, ``path`` is as sent, with the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The Host header: no default port, no trailing dot, brackets around IPv6."""
        host = f"[{self.host}]" if ":" in self.host else self.host.rstrip(".")
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


class Pinned(NamedTuple, Generic[Way]):
    """A way to an address, the address, and when (monotonic) that was known."""

    way: Way
    address: str
    resolved_at: float


@lru_cache(maxsize=4096)
def check_url(url: str) -> Target:
    """Take a webhook's URL apart, refusing every form that is not plain http or https.

    Raises UnsafeURL with ``reason`` one of length, characters, scheme, userinfo, host, port,
    numeric_host. The last are the decimal, octal, hex and shortened spellings of IPv4, which resolvers
    read and people do not. Whether an address may be reached is asked of a Guard.
    """
    if not 0 < len(url) <= MAX_URL_LENGTH:
        raise UnsafeURL("length")
    # A backslash is a slash to browsers and part of the host to others: no two readers may disagree.
    if "\\" in url or any(character <= " " or _is_invisible(character) for character in url):
        raise UnsafeURL("characters")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UnsafeURL("host") from None
    scheme = parts.scheme
    if scheme not in _DEFAULT_PORTS:
        raise UnsafeURL("scheme")
    if "@" in parts.netloc:
        raise UnsafeURL("userinfo")
    authority = _AUTHORITY.fullmatch(parts.netloc)
    if authority is None:
        raise UnsafeURL("host")
    port = int(authority["port"] or _DEFAULT_PORTS[scheme])
    if not 0 < port < 65536:
        raise UnsafeURL("port")
    path = parts.path or "/"
    if parts.query:
        path += "?" + parts.query
    # What is percent-encoded stays so; only what may not stand in a request line is encoded.
    return Target(scheme, _host(authority["host"]), port, quote(path, safe="/?%:@!$&'()*+,;=~-._[]"))


def _is_invisible(character: str) -> bool:
    return character > "~" and unicodedata.category(character)[0] in "CZ"


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            raise UnsafeURL("host") from None
    host = text.lower()
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except idna.IDNAError:
            raise UnsafeURL("host") from None
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise UnsafeURL("host")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise UnsafeURL("numeric_host") from None
    return host


def system_resolver(host: str, port: int) -> list[str]:
    """Ask the system's resolver; under eventlet's patching this yields to other green threads."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, "no name that can be asked for") from None
    return [str(sockaddr[0]) for *_, sockaddr in found]


class Guard:
    """Judge addresses by one policy, and let nothing be dialled that was not judged.

    ``allowed_networks``: networks that may be reached although they are special, as the operator set them;
    an address is compared as it is written, so allowing 10.0.0.0/8 does not allow ``::ffff:10.0.0.1``.
    ``resolver``: how names become addresses. Stateless, safe for threads and green threads.
    """

    def __init__(self, allowed_networks: Sequence[IPNetwork] = (), resolver: Resolver = system_resolver) -> None:
        self._allowed = tuple(allowed_networks)
        self._resolver = resolver

    def check_url(self, url: str) -> Target:
        """Check, when an endpoint is created, the form and a host that is an address itself.

        Names are not resolved: what one answers today says nothing about the day of the delivery.
        Raises UnsafeURL for either, with the kind of range as ``reason`` for an address.
        """
        target = check_url(url)
        address = _as_address(target.host)
        if address is not None:
            try:
                self.check_address(address)
            except BlockedAddress as blocked:
                raise UnsafeURL(blocked.reason) from None
        return target

    def check_address(self, address: IPAddress) -> None:
        """Raise BlockedAddress unless the address is a public one or is allowed."""
        reason = _refusal(address)
        if reason is not None and not any(address in network for network in self._allowed):
            raise BlockedAddress(str(address), reason)

    def resolve(self, target: Target, deadline: float) -> list[IPAddress]:
        """Give the addresses of a target, each of them checked.

        One bad address among good ones refuses all: an honest name has none. ``deadline``: monotonic.
        Raises BlockedAddress, and OSError from the resolver; socket.gaierror when it is late or knows none.
        """
        literal = _as_address(target.host)
        if literal is not None:
            addresses = [literal]
        else:
            texts = _within(lambda: self._resolver(target.host, target.port), deadline)
            addresses = [ipaddress.ip_address(text) for text in dict.fromkeys(texts)]
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no addresses")
        for address in addresses:
            self.check_address(address)
        return addresses

    def connect(self, target: Target, deadline: float, dial: Dial[Way]) -> Pinned[Way]:
        """Dial the checked addresses of the target until there is a way to one.

        They are tried in order, each with an equal share of the time left to ``deadline`` (monotonic).
        Raises what `resolve` raises, and the OSError of the last address that was dialled.
        """
        addresses = self.resolve(target, deadline)[:MAX_ADDRESSES_TRIED]
        resolved_at = monotonic()
        failure: OSError = TimeoutError("timed out")
        for tried, address in enumerate(addresses):
            now = monotonic()
            share = (deadline - now) / (len(addresses) - tried)
            if share <= 0:
                break
            try:
                return Pinned(dial(address, target.port, now + share), str(address), resolved_at)
            except OSError as error:
                failure = error
        raise failure


def _as_address(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _refusal(address: IPAddress) -> str | None:
    if isinstance(address, ipaddress.IPv4Address):
        return next((word for network, word in _REFUSED_V4 if address in network), None)
    named = next((word for network, word in _REFUSED_V6 if address in network), None)
    return named or (None if address in _GLOBAL_V6 else "reserved")


def _within(ask: Callable[[], Sequence[str]], deadline: float) -> Sequence[str]:
    """Run a resolver but wait for it no longer than to the deadline.

    getaddrinfo takes no timeout and a dead name server costs it half a minute, so it has a thread of its
    own (a green one under eventlet), which ends by itself when we no longer listen.
    """
    answers: list[Sequence[str]] = []
    errors: list[Exception] = []
    answered = threading.Event()

    def run() -> None:
        try:
            answers.append(ask())
        except Exception as error:
            errors.append(error)
        finally:
            answered.set()

    threading.Thread(target=run, name="webhook-resolver", daemon=True).start()
    if not answered.wait(max(0.0, deadline - monotonic())):
        raise socket.gaierror(socket.EAI_AGAIN, "the name was not resolved in time")
    if errors:
        raise errors[0]
    return answers[0]
