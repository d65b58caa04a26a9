"""The little of HTTP/1.1 that a webhook needs: one request with a body, a status, some headers, a short body.

It is spoken here, on a wire with a deadline, because every byte must obey that deadline, and because a
general client costs several times the CPU of the POST itself.
"""

import re
import ssl
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NamedTuple, Protocol

from service.webhooks.guard import Target
from service.webhooks.wire import CHUNK, ClosedError, ProtocolError, Wire

USER_AGENT = "Carillon-Webhooks/1.0"
#: Bytes and lines of a response's status and headers, and the number of informational (1xx) ones before it.
HEAD_LIMIT = 32 * 1024
LINE_LIMIT = 256
INFORMATIONAL_LIMIT = 5
#: Seconds; the longest Retry-After that is reported.
RETRY_AFTER_LIMIT = 3600.0

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: .*)?", re.DOTALL)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?", re.DOTALL)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OWN_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
# What describes the body, what signs it, and what is between us and a proxy.
_RESERVED_PREFIXES = ("content-", "webhook-", "proxy-")


class Answer(Protocol):
    """Where an answer is noted as it comes, so that what came stands although the rest does not."""

    status: int | None
    fields: dict[str, str]
    body: bytearray


def request_bytes(target: Target, headers: Mapping[str, str], body: bytes) -> bytes:
    """The whole request; ValueError for headers that cannot be sent or that are set here."""
    lines = [
        f"POST {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nUser-Agent: {USER_AGENT}\r\n"
        f"Accept: */*\r\nAccept-Encoding: identity\r\nContent-Length: {len(body)}\r\n"
    ]
    for name, value in headers.items():
        if not _may_send(name) or _VALUE.fullmatch(value) is None:
            raise ValueError(f"header {name!r} cannot be sent")
        lines.append(f"{name}: {value}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1") + body


@lru_cache(maxsize=256)
def _may_send(name: str) -> bool:
    return _TOKEN.fullmatch(name) is not None and name.lower() not in _OWN_HEADERS


def is_reserved_header(name: str) -> bool:
    """Whether an endpoint may not have its own value for this header: it is set here, or says what is sent how."""
    lowered = name.lower()
    return lowered in _OWN_HEADERS or lowered.startswith(_RESERVED_PREFIXES)


class Head(NamedTuple):
    """The beginning of an answer.

    ``version``: 0 or 1, of HTTP/1. ``fields``: names in lower case. ``is_clear``: no line of it can be read in
    two ways, as by two servers on the way that then disagree where the answer ends.
    """

    version: int
    status: int
    fields: dict[str, str]
    is_clear: bool


class Reader:
    """Bytes of a response as they come; ``buffer`` holds what is read and not yet taken."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.buffer = bytearray()

    def fill(self) -> None:
        """Read on; raises ClosedError at the end."""
        data = self._wire.receive(CHUNK)
        if not data:
            raise ClosedError("closed in the middle of the answer")
        self.buffer += data

    def head(self) -> str:
        """The status line and the headers."""
        searched = 0
        while True:
            if not self.buffer.startswith(b"HTTP/1."[: len(self.buffer)]):
                raise ProtocolError("the answer is not HTTP/1")
            end = _HEAD_END.search(self.buffer, searched)
            if (end.end() if end else len(self.buffer)) > HEAD_LIMIT:
                raise ProtocolError("the headers are too large")
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
                raise ProtocolError("a chunk's line is too long")
            self.fill()
        line = bytes(self.buffer[:end]).removesuffix(b"\r")
        del self.buffer[: end + 1]
        return line

    def move(self, size: int, into: bytearray) -> None:
        """Take exactly ``size`` bytes; at an early end the bytes there are, and ClosedError."""
        while True:
            part = self.buffer[:size]
            into += part
            del self.buffer[: len(part)]
            size -= len(part)
            if not size:
                return
            self.fill()


def read_response(reader: Reader, answer: Answer, limit: int) -> bool:
    """Note the answer, of its body at most ``limit`` bytes.

    True when it was read to its end and the connection can be used again.
    """
    head = read_head(reader)
    answer.status = head.status
    answer.fields = head.fields
    length = _content_length(head.fields)
    try:
        complete = _read_body(reader, answer, length, limit)
    except (ClosedError, ProtocolError, ConnectionError, ssl.SSLError):
        # The status was the answer; a body cut short does not take it back.
        return False
    tokens = head.fields.get("connection", "").lower()
    kept = "close" not in tokens if head.version == 1 else "keep-alive" in tokens
    # Bytes that follow the answer were not asked for: the next request would take them for its own.
    return complete and kept and head.is_clear and not reader.buffer


def read_head(reader: Reader) -> Head:
    """Read up to the body of the final answer; raises ProtocolError, and ClosedError at an early end."""
    for _ in range(INFORMATIONAL_LIMIT + 1):
        if not reader.buffer:
            reader.fill()
        head = _parse_head(reader.head())
        if head.status >= 200:
            return head
        if head.status == 101:
            raise ProtocolError("an upgrade was not asked for")
    raise ProtocolError("too many informational answers")


def _parse_head(head: str) -> Head:
    first, *lines = [line.removesuffix("\r") for line in head.split("\n")]
    start = _STATUS_LINE.fullmatch(first)
    if start is None or "\0" in head:
        raise ProtocolError("the answer is not HTTP/1")
    if len(lines) > LINE_LIMIT:
        raise ProtocolError("the headers are too many")
    fields: dict[str, str] = {}
    is_clear = True
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or _TOKEN.fullmatch(name) is None or "\r" in value:
            is_clear = False  # folded or broken: nothing that matters here is ever so written
            continue
        name, value = name.lower(), value.strip(" \t")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return Head(int(start[1]), int(start[2]), fields, is_clear)


def _content_length(fields: dict[str, str]) -> int | None:
    text = fields.get("content-length")
    if text is None or "transfer-encoding" in fields:
        return None
    values = {value.strip(" \t") for value in text.split(",")}
    value = values.pop()
    if values or not value.isascii() or not value.isdigit() or len(value) > 18:
        raise ProtocolError("bad Content-Length")
    return int(value)


def _read_body(reader: Reader, answer: Answer, length: int | None, limit: int) -> bool:
    """Read up to the limit; True when the body ended before it and its end is known from its framing."""
    body = answer.body
    if answer.status in (204, 304):
        return True
    if length is not None:
        reader.move(min(length, limit), body)
        return length <= limit
    coding = answer.fields.get("transfer-encoding", "").lower()
    if coding.rpartition(",")[2].strip(" \t") == "chunked":
        # Both framings at once is how requests are smuggled: read, but not trusted with another request.
        return _read_chunks(reader, body, limit) and "content-length" not in answer.fields
    reader.move(limit, body)
    return False


def _read_chunks(reader: Reader, body: bytearray, limit: int) -> bool:
    while True:
        size_line = _CHUNK_SIZE.fullmatch(reader.line())
        if size_line is None:
            raise ProtocolError("bad chunk")
        size = int(size_line[1], 16)
        if size == 0:
            break
        reader.move(min(size, limit - len(body)), body)
        if len(body) >= limit:
            return False
        if reader.line():
            raise ProtocolError("bad chunk")
    # Trailers are not kept; more of them than this and the connection is not worth keeping either.
    return any(not reader.line() for _ in range(32))


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
