"""Answers that are odd, cut short, too large or no HTTP at all, and the request that is sent."""

import email.utils
import ipaddress
import socket
import time
from collections.abc import Iterator

import pytest

from service.webhooks.guard import Guard
from service.webhooks.http1 import is_reserved_header, parse_retry_after
from service.webhooks.sender import OutboundRequest, Sender
from tests.unit.webhooks.scripts import answer, post, raw

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


@pytest.fixture
def sender() -> Iterator[Sender]:
    sender = Sender(Guard(LOOPBACK))
    yield sender
    sender.close()


@pytest.mark.parametrize("status", [201, 204, 400, 410, 429, 500, 503])
def test_every_status_is_an_answer_and_keeps_the_connection(sender, receive, status: int) -> None:
    receiver = receive(answer(f"{status} Word", b""))
    outcomes = [post(sender, receiver.url()) for _ in range(2)]
    assert [(o.status, o.error_class, o.reused) for o in outcomes] == [
        (status, None, False),
        (status, None, True),
    ]


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 500 smuggled\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding : chunked\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n Transfer-Encoding: chunked\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n{}",
    ],
)
def test_a_connection_in_doubt_is_not_kept(sender, receive, reply: bytes) -> None:
    def script(connection: socket.socket, received: object) -> bool:
        connection.sendall(reply)
        return True

    receiver = receive(script)
    outcomes = [post(sender, receiver.url()) for _ in range(2)]
    assert [(o.status, o.body[:2], o.reused) for o in outcomes] == [(200, "{}", False)] * 2
    assert receiver.connections == 2


def test_a_large_body_is_read_to_the_limit_and_kept_in_part(sender, receive) -> None:
    sent = 0

    def flood(connection: socket.socket, received: object) -> bool:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sent += connection.send(b"x" * 65536)

    receiver = receive(flood)
    outcome = post(sender, receiver.url())
    assert (outcome.status, outcome.error_class) == (200, None)
    assert outcome.body == "x" * 4096
    receiver.close()
    assert sent < 50_000_000  # what the kernel's buffers took in, not what we read


@pytest.mark.parametrize("size", [65536, 65537, 10**12])
def test_a_body_of_known_length_keeps_the_connection_up_to_the_limit(sender, receive, size: int) -> None:
    def script(connection: socket.socket, received: object) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"y" * min(size, 70000))
        return True

    receiver = receive(script)
    outcomes = [post(sender, receiver.url()) for _ in range(2)]
    assert [outcome.status for outcome in outcomes] == [200, 200]
    assert outcomes[1].reused is (size <= 65536)


def test_chunks_are_joined_and_the_connection_kept(sender, receive) -> None:
    def script(connection: socket.socket, received: object) -> bool:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        for part in (head, b"3;ext=1\r\nab", b"c\r\n", b"A\r\n0123456789\r", b"\n0\r\nTrailer: x\r\n\r\n"):
            connection.sendall(part)
            time.sleep(0.005)
        return True

    receiver = receive(script)
    outcomes = [post(sender, receiver.url()) for _ in range(2)]
    assert [outcome.body for outcome in outcomes] == ["abc0123456789"] * 2
    assert outcomes[1].reused


def test_a_chunk_that_claims_to_be_huge_is_read_to_the_limit(sender, receive) -> None:
    receiver = receive(raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n" + b"z" * 100_000))
    outcome = post(sender, receiver.url())
    assert (outcome.status, outcome.error_class, outcome.body) == (200, None, "z" * 4096)


def test_framing_without_end_is_not_read_to_the_deadline(sender, receive) -> None:
    """Chunks of one byte, each with a kilobyte of decoration."""
    sent = 0

    def flood(connection: socket.socket, received: object) -> bool:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            sent += connection.send((b"1;" + b"e" * 1000 + b"\r\nx\r\n") * 100)

    receiver = receive(flood)
    outcome = post(sender, receiver.url())
    assert (outcome.status, outcome.error_class) == (200, None)
    assert set(outcome.body) == {"x"}
    assert outcome.timings.total < 5000
    receiver.close()
    assert sent < 20_000_000  # what the kernel's buffers took in, not what we read


def test_a_compressed_bomb_stays_packed(sender, receive) -> None:
    import gzip

    bomb = gzip.compress(b"\0" * 10_000_000)
    receiver = receive(answer(body=bomb, headers="Content-Encoding: gzip\r\n"))
    assert len(post(sender, receiver.url()).body) <= 4096


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02\x50",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 600 No\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a:\n" * 300 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10,
    ],
)
def test_garbage_is_a_protocol_error(sender, receive, reply: bytes) -> None:
    outcome = post(sender, receive(raw(reply, wait=0.05)).url())
    assert outcome.error_class == "protocol"


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\ncut",
        b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ncut",
        b"HTTP/1.1 202\r\n\r\ncut",
        b"HTTP/1.1 202 Accepted\n\ncut",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 3\r\n\r\ncut",
    ],
)
def test_a_status_stands_although_the_body_is_cut_short(sender, receive, reply: bytes) -> None:
    outcome = post(sender, receive(raw(reply)).url())
    assert (outcome.status, outcome.error_class, outcome.body) == (202, None, "cut")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Bad", "a\r\nX-Injected: 1"),
        ("X-Bad", "a\nb"),
        ("X-Bad", "☂"),
        ("X Bad", "a"),
        ("X-Bad:", "a"),
        ("Host", "victim"),
        ("Content-Length", "0"),
        ("transfer-encoding", "chunked"),
    ],
)
def test_headers_that_may_not_be_sent(sender, name: str, value: str) -> None:
    with pytest.raises(ValueError):
        sender.send(OutboundRequest("http://127.0.0.1:9/", b"", {name: value}))


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "x-request-id", "Accepts", "Webhooks-Id", "Cookies"])
def test_headers_that_an_endpoint_may_ask_for(sender, receive, name: str) -> None:
    assert not is_reserved_header(name)
    receiver = receive(answer())
    sender.send(OutboundRequest(receiver.url(), b"", {name: "value"}))
    assert receiver.requests[0].headers[name.lower()] == "value"


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "content-length", "Content-Type", "Content-Encoding", "TRANSFER-ENCODING", "User-Agent", "Accept"),
        *("Connection", "Keep-Alive", "TE", "Trailer", "Upgrade", "Proxy-Authorization", "proxy-connection", "Expect"),
        *("webhook-id", "Webhook-Signature", "webhook-anything", "Cookie", "Accept-Encoding"),
    ],
)
def test_headers_that_an_endpoint_may_not_ask_for(name: str) -> None:
    assert is_reserved_header(name)


def test_retry_after_in_seconds_and_as_a_date(sender, receive) -> None:
    soon = email.utils.formatdate(time.time() + 120, usegmt=True)
    for value, low, high in (("30", 30, 30), ("999999", 3600, 3600), (soon, 115, 120)):
        receiver = receive(answer("503 Busy", headers=f"Retry-After: {value}\r\n"))
        assert low <= (post(sender, receiver.url()).retry_after or 0) <= high


@pytest.mark.parametrize("value", ["", "-5", "soon", "1.5", "²", "Mon, 99 Foo 2020 00:00:00 GMT", "9" * 4000])
def test_a_nonsense_retry_after_never_breaks(value: str) -> None:
    assert parse_retry_after(value, 0.0) in (None, 3600.0)


def test_a_date_gone_by_means_at_once() -> None:
    assert parse_retry_after("Thu, 01 Jan 1970 00:00:10 GMT", 1000.0) == 0.0
