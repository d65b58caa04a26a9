"""Connections to mail servers: how they are opened, and how they are kept between mails."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from threading import Lock, Timer
from time import monotonic
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from service.notifications.providers.letters import Failed, Refused

# For each exchange with the mail server.
TIMEOUT_SECONDS = 10.0
SMTPS_PORT, SUBMISSION_PORT, SMTP_PORT = 465, 587, 25
# A connection is closed when it was not used for so long; one not used for a moment is asked whether it still stands.
KEPT_SECONDS = 15.0
TRUSTED_SECONDS = 1.0
KEPT_AT_MOST = 10
OK, SERVICE_NOT_AVAILABLE = 250, 421


class _Idle(NamedTuple):
    """A connection between two mails; since when (monotonic)."""

    url: str
    server: smtplib.SMTP
    since: float


class Connections:
    """The connections of this process; safe for threads and for green threads."""

    def __init__(self) -> None:
        self._idle: list[_Idle] = []
        self._lock = Lock()
        self._is_swept = False

    def take(self, url: str) -> smtplib.SMTP | None:
        """A connection that stands, as far as can be told; None where there is none."""
        while found := self._pop(url):
            age = monotonic() - found.since
            if age < KEPT_SECONDS and (age < TRUSTED_SECONDS or _answers(found.server)):
                return found.server
            found.server.close()
        return None

    def put(self, url: str, server: smtplib.SMTP) -> None:
        """Keep a connection for the next mail."""
        with self._lock:
            self._idle.append(_Idle(url, server, monotonic()))
            old = self._idle[:-KEPT_AT_MOST]
            del self._idle[:-KEPT_AT_MOST]
            if not self._is_swept:
                self._is_swept = True
                self._sweep_later()
        _end(old)

    def clear(self) -> None:
        """Close those that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        _end(idle)

    def _pop(self, url: str) -> _Idle | None:
        with self._lock:
            # The last one used first: the others may grow old.
            for place in reversed(range(len(self._idle))):
                if self._idle[place].url == url:
                    return self._idle.pop(place)
        return None

    def _sweep_later(self) -> None:
        timer = Timer(KEPT_SECONDS, self._sweep)
        timer.daemon = True
        timer.start()

    def _sweep(self) -> None:
        oldest = monotonic() - KEPT_SECONDS
        with self._lock:
            old = [each for each in self._idle if each.since <= oldest]
            self._idle = [each for each in self._idle if each.since > oldest]
            self._is_swept = bool(self._idle)
            if self._is_swept:
                self._sweep_later()
        _end(old)


CONNECTIONS = Connections()


@contextmanager
def conversation(url: str, sender: str, options: Sequence[str]) -> Iterator[smtplib.SMTP]:
    """A server that has accepted MAIL from a sender; kept afterwards unless it broke off.

    Raises OSError, smtplib.SMTPException, ValueError for a URL that makes no sense, and Failed.
    """
    server = _begun_on_kept(url, sender, options) or _begun(connect(url), sender, options)
    try:
        yield server
    except (Refused, Failed):
        # An answer, not a break: the next mail may use the connection.
        if _answers(server, "rset"):
            CONNECTIONS.put(url, server)
        raise
    except BaseException:
        server.close()
        raise
    CONNECTIONS.put(url, server)


def _begun_on_kept(url: str, sender: str, options: Sequence[str]) -> smtplib.SMTP | None:
    """A kept connection with MAIL accepted; None where there is none, or the server had given it up meanwhile."""
    server = CONNECTIONS.take(url)
    if server is None:
        return None
    try:
        code, _ = server.mail(sender, options)
    except (OSError, smtplib.SMTPServerDisconnected):
        code = SERVICE_NOT_AVAILABLE
    except BaseException:
        server.close()
        raise
    if code == OK:
        return server
    # Whatever it is, a new connection is told the same, and without the past of this one.
    server.close()
    return None


def _begun(server: smtplib.SMTP, sender: str, options: Sequence[str]) -> smtplib.SMTP:
    try:
        code, answer = server.mail(sender, options)
        if code != OK:
            raise Failed(f"{code} {answer.decode(errors='replace')}")
    except BaseException:
        server.close()
        raise
    return server


def _answers(server: smtplib.SMTP, command: str = "noop") -> bool:
    try:
        if server.docmd(command)[0] == OK:
            return True
    except (OSError, smtplib.SMTPException):
        pass
    server.close()
    return False


def _end(connections: Sequence[_Idle]) -> None:
    for each in connections:
        with suppress(OSError, smtplib.SMTPException):
            each.server.quit()


def connect(url: str) -> smtplib.SMTP:
    """A new connection, greeted, encrypted and logged in. Raises OSError, smtplib.SMTPException, ValueError, Failed."""
    parts = urlsplit(url)
    server = _open(parts)
    try:
        server.ehlo_or_helo_if_needed()
        if parts.scheme == "smtp":
            _encrypt(server, parts)
        if parts.username:
            server.login(unquote(parts.username), unquote(parts.password or ""))
    except BaseException:
        server.close()
        raise
    return server


def _open(url: SplitResult) -> smtplib.SMTP:
    host = url.hostname or "localhost"
    if url.scheme == "smtps":
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(host, url.port or SMTPS_PORT, timeout=TIMEOUT_SECONDS, context=context)
    if url.scheme != "smtp":
        raise Failed("SMTP_URL must begin with smtp:// or smtps://.")
    port = url.port or (SUBMISSION_PORT if url.username else SMTP_PORT)
    return smtplib.SMTP(host, port, timeout=TIMEOUT_SECONDS)


def _encrypt(server: smtplib.SMTP, url: SplitResult) -> None:
    """Use STARTTLS where it is offered; a password goes to a server with a good certificate, or to this machine."""
    if server.has_extn("starttls"):
        context = ssl.create_default_context()
        if not url.username:
            # As mail servers do among themselves: many have a certificate of their own making, and whoever could
            # show us a false one could as well hide that STARTTLS is offered.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        server.starttls(context=context)
        server.ehlo()
    elif url.username and not _is_loopback(url.hostname or "localhost"):
        raise Failed("The mail server offers no STARTTLS, and a password is not sent in the clear.")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
