"""One POST against receivers that hang, drip, refuse and lie, over plain and TLS connections that are kept."""

import ipaddress
import socket
import ssl
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.resolver
import dns.rrset
import pytest

from service.webhooks.guard import Guard
from service.webhooks.sender import Limits, Sender
from tests.unit.webhooks.scripts import answer, drip, hang, post, raw

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
QUICK = Limits(connect=0.5, total=0.5)


@pytest.fixture
def sender() -> Iterator[Sender]:
    sender = Sender(Guard(LOOPBACK))
    yield sender
    sender.close()


@pytest.fixture
def hasty() -> Iterator[Sender]:
    sender = Sender(Guard(LOOPBACK), QUICK)
    yield sender
    sender.close()


def test_the_request_as_the_receiver_sees_it(sender, receive) -> None:
    receiver = receive(answer(body=b'{"ok":true}', headers="X-Trace: a\r\nX-Trace: b\r\n"))
    outcome = post(sender, receiver.url(path="/in?a=1#f"), b'{"type":"x"}', webhook_id="msg_1")
    (seen,) = receiver.requests
    assert seen.start == "POST /in?a=1 HTTP/1.1"
    assert seen.body == b'{"type":"x"}'
    assert seen.headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "user-agent": "Carillon-Webhooks/1.0",
        "accept": "*/*",
        "accept-encoding": "identity",
        "content-length": "12",
        "content-type": "application/json",
        "webhook-id": "msg_1",
    }
    assert (outcome.status, outcome.error_class, outcome.body) == (200, None, '{"ok":true}')
    assert outcome.headers["x-trace"] == "a, b"
    assert outcome.address == "127.0.0.1"
    assert outcome.timings.dns is not None
    assert outcome.timings.connect is not None
    assert outcome.timings.tls is None
    assert 0 < (outcome.timings.first_byte or 0) <= outcome.timings.total


def test_a_redirect_is_not_followed(sender, receive) -> None:
    victim = receive(answer())
    receiver = receive(answer("307 Temporary Redirect", headers=f"Location: {victim.url()}\r\n"))
    outcome = post(sender, receiver.url())
    assert outcome.status == 307
    assert outcome.headers["location"] == victim.url()
    assert victim.requests == []


def test_a_kept_connection_is_used_again(sender, receive) -> None:
    receiver = receive(answer())
    outcomes = [post(sender, receiver.url()) for _ in range(20)]
    assert receiver.connections == 1
    assert [outcome.reused for outcome in outcomes] == [False] + [True] * 19
    assert outcomes[-1].address == "127.0.0.1"
    assert outcomes[-1].timings.connect is None


def test_a_connection_that_the_receiver_closed_while_idle_is_not_used(sender, receive, until) -> None:
    receiver = receive(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    for _ in range(3):
        outcome = post(sender, receiver.url())
        assert (outcome.status, outcome.reused) == (200, False)
        until(lambda: receiver.open_connections == 0, "the end of the connection")


def test_a_farewell_on_an_idle_connection_is_not_taken_for_an_answer(sender, receive) -> None:
    """Some servers end an idle connection with a 408 that nobody asked for."""
    is_idle, said = threading.Event(), threading.Event()

    def script(connection: socket.socket, received: object) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        is_idle.wait(5)
        connection.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        said.set()
        return True

    receiver = receive(script)
    post(sender, receiver.url())
    is_idle.set()
    assert said.wait(5)
    outcome = post(sender, receiver.url())
    assert (outcome.status, outcome.reused) == (200, False)


def test_a_connection_that_closes_under_the_request_is_replaced_once(sender, receive) -> None:
    """The receiver's idle timeout and our request cross on the way."""

    def script(connection: socket.socket, received: object) -> bool:
        if len(receiver.requests) == 2:
            return False
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        return True

    receiver = receive(script)
    post(sender, receiver.url())
    outcome = post(sender, receiver.url(), b"again")
    assert (outcome.status, outcome.reused) == (200, False)
    assert [request.body for request in receiver.requests] == [b"{}", b"again", b"again"]
    assert receiver.connections == 2


def test_a_fresh_connection_that_closes_is_not_tried_twice(sender, receive) -> None:
    receiver = receive(raw())
    outcome = post(sender, receiver.url())
    assert (outcome.status, outcome.error_class) == (None, "connection_reset")
    assert len(receiver.requests) == 1


def test_old_connections_are_not_used_and_idle_ones_are_bounded(receive, monkeypatch) -> None:
    receiver = receive(answer())
    other = receive(answer())
    sender = Sender(Guard(LOOPBACK), max_idle=1)
    assert [post(sender, url).reused for url in (receiver.url(), other.url(), receiver.url(), other.url())] == [
        False,
        False,
        True,
        False,
    ]
    monkeypatch.setattr("service.webhooks.wire.AGE_LIMIT", 0.0)
    assert not post(sender, receiver.url()).reused
    sender.close()


@pytest.mark.parametrize(
    "script",
    [
        hang,
        drip(b"HTTP/1.1 200 ", b"O"),
        drip(b"HTTP/1.1 200 OK\r\n", b"X-Header: 1\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
        drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["hang", "status", "headers", "one header", "continue"],
)
def test_no_answer_outlasts_the_deadline(hasty, receive, script) -> None:
    receiver = receive(script)
    began = time.monotonic()
    outcome = post(hasty, receiver.url())
    assert time.monotonic() - began < 1.5
    assert outcome.status is None
    assert outcome.error_class in ("timeout", "protocol")


@pytest.mark.parametrize(
    "script",
    [
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b"x"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    ],
    ids=["length", "chunked", "until close"],
)
def test_no_body_outlasts_the_deadline(hasty, receive, script) -> None:
    receiver = receive(script)
    began = time.monotonic()
    outcome = post(hasty, receiver.url())
    assert 0.4 < time.monotonic() - began < 1.5
    assert (outcome.status, outcome.error_class) == (200, "timeout")
    assert outcome.body.startswith("xxx")


def test_a_silence_after_a_drip_has_only_the_time_that_is_left(receive) -> None:
    def script(connection: socket.socket, received: object) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
        for _ in range(8):
            time.sleep(0.1)
            connection.sendall(b"x")
        return hang(connection, received)

    outcome = post(Sender(Guard(LOOPBACK), Limits(connect=1.0, total=1.0)), receive(script).url())
    assert outcome.error_class == "timeout"
    assert 990 < outcome.timings.total < 1500


def test_a_receiver_that_does_not_read_does_not_outlast_the_deadline(hasty) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outcome = post(hasty, f"http://127.0.0.1:{listener.getsockname()[1]}/", b"x" * 20_000_000)
    assert (outcome.status, outcome.error_class) == (None, "timeout")
    assert outcome.timings.total < 1500


def test_a_connect_that_gets_no_reply_ends_in_time(hasty) -> None:
    """A full backlog leaves the SYN unanswered, as a packet filter does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        outcome = post(hasty, f"http://127.0.0.1:{listener.getsockname()[1]}/")
        for filler in fillers:
            filler.close()
    assert (outcome.status, outcome.error_class) == (None, "connect_timeout")
    assert outcome.timings.total < 1500


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 20"])
def test_an_end_before_the_status_is_a_reset(sender, receive, before: bytes) -> None:
    outcome = post(sender, receive(raw(before)).url())
    assert (outcome.status, outcome.error_class) == (None, "connection_reset")


def test_a_reset_is_a_reset(sender, receive) -> None:
    def reset(connection: socket.socket, received: object) -> bool:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    outcome = post(sender, receive(reset).url())
    assert (outcome.status, outcome.error_class) == (None, "connection_reset")


def test_a_closed_port_refuses(sender) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outcome = post(sender, f"http://127.0.0.1:{port}/")
    assert (outcome.status, outcome.error_class, outcome.address) == (None, "connection_refused", None)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://2130706433/",
        "http://localhost/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://example.com@127.0.0.1/",
        "x",
    ],
)
def test_a_forbidden_address_is_blocked(url: str) -> None:
    outcome = post(Sender(Guard()), url)
    assert (outcome.status, outcome.error_class, outcome.address) == (None, "blocked_address", None)
    assert "169.254" not in outcome.error


def test_an_unknown_name_is_a_dns_error() -> None:
    def resolver(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    outcome = post(Sender(Guard(resolver=resolver)), "http://unknown.example/")
    assert (outcome.status, outcome.error_class) == (None, "dns")


def test_a_kept_connection_stays_with_its_checked_address(receive) -> None:
    """A name that turns to a forbidden address: what is connected may be used, nothing new is connected."""
    receiver = receive(answer())
    answers = ["127.0.0.1"]
    sender = Sender(Guard(LOOPBACK, lambda host, port: list(answers)))
    url = receiver.url("turning.example")
    assert post(sender, url).status == 200
    answers[0] = "10.0.0.1"
    assert (post(sender, url).status, post(sender, url).reused) == (200, True)
    sender.close()
    assert post(sender, url).error_class == "blocked_address"
    assert {request.headers["host"] for request in receiver.requests} == {f"turning.example:{receiver.port}"}


@contextmanager
def name_server(answers: Sequence[str]) -> Iterator[tuple[dns.resolver.Resolver, list[str]]]:
    """A name server that says another address each time, to be forgotten at once, and who asks it."""
    asked: list[str] = []

    def serve(server: socket.socket) -> None:
        while True:
            wire, client = server.recvfrom(4096)
            if not wire:
                return
            query = dns.message.from_wire(wire)
            reply = dns.message.make_response(query)
            reply.answer = [dns.rrset.from_text(query.question[0].name, 0, "IN", "A", answers[len(asked)])]
            asked.append(str(query.question[0].name))
            server.sendto(reply.to_wire(), client)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], server.getsockname()[1]
        yield resolver, asked
        server.sendto(b"", server.getsockname())
        thread.join(5)


def test_a_name_that_is_bound_anew_leads_nowhere_else(receive) -> None:
    """DNS rebinding, name server and all: one question for each connection, and none for one that is kept."""
    receiver = receive(answer())
    with (
        socket.create_server(("127.0.0.2", receiver.port)) as victim,
        name_server(["127.0.0.1", "127.0.0.2", "127.0.0.1"]) as (resolver, asked),
    ):
        guard = Guard(
            [ipaddress.ip_network("127.0.0.1/32")],
            lambda host, port: [record.address for record in resolver.resolve(host, "A", lifetime=3)],
        )
        sender = Sender(guard)
        url = receiver.url("rebinding.example")
        first, second = post(sender, url), post(sender, url)
        assert (first.status, first.address, second.status, second.reused) == (200, "127.0.0.1", 200, True)
        assert asked == ["rebinding.example."]
        sender.close()
        refused, third = post(sender, url), post(sender, url)
        sender.close()
        assert (refused.status, refused.error_class, refused.address) == (None, "blocked_address", None)
        assert (third.status, third.address, third.reused) == (200, "127.0.0.1", False)
        assert asked == ["rebinding.example."] * 3
        victim.settimeout(0)
        with pytest.raises(BlockingIOError):
            victim.accept()


def test_the_environment_is_not_read(sender, receive, monkeypatch) -> None:
    proxy = receive(answer())
    receiver = receive(answer())
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url())
    assert post(sender, receiver.url()).status == 200
    assert proxy.connections == 0


def test_cookies_are_neither_kept_nor_recorded(sender, receive) -> None:
    receiver = receive(answer(headers="Set-Cookie: session=1\r\n"))
    outcome = post(sender, receiver.url())
    post(sender, receiver.url())
    assert "set-cookie" not in outcome.headers
    assert "cookie" not in receiver.requests[1].headers


def test_the_record_is_bounded_and_fit_for_the_database(sender, receive) -> None:
    headers = "".join(f"X-{number}: {'v' * 500}\r\n" for number in range(60))
    outcome = post(sender, receive(answer(body=b"a\0b\xff", headers=headers)).url())
    assert len(outcome.headers) == 40
    assert max(len(value) for value in outcome.headers.values()) == 256
    assert outcome.body == "a\ufffdb\ufffd"


def test_tls_verifies_the_name_of_the_url_not_the_address(receive, authority) -> None:
    names: list[str | None] = []
    serving = authority.serving()
    serving.sni_callback = lambda connection, name, context: names.append(name)
    receiver = receive(answer(), serving)
    sender = Sender(Guard(LOOPBACK, lambda host, port: ["127.0.0.1"]), tls=authority.trusting())
    first = post(sender, receiver.url("hooks.example.com"), b"x" * 100_000)
    second = post(sender, receiver.url("hooks.example.com"))
    assert (first.status, first.error_class, first.reused) == (200, None, False)
    assert first.timings.tls is not None
    assert (second.status, second.reused) == (200, True)
    assert names == ["hooks.example.com"]
    assert receiver.requests[0].headers["host"] == f"hooks.example.com:{receiver.port}"
    assert len(receiver.requests[0].body) == 100_000
    for host in ("other.example.com", "127.0.0.1"):
        outcome = post(sender, receiver.url(host))
        assert (outcome.status, outcome.error_class) == (None, "tls")
    sender.close()


def test_an_answer_that_nobody_asked_for_is_not_kept_within_tls(receive, authority) -> None:
    """It came together with the true one, in a record of its own, so that the socket looks quiet."""
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    def script(connection: ssl.SSLSocket, received: object) -> bool:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        connection.sendall(reply)
        connection.sendall(reply.replace(b"200 OK", b"299 Smuggled"))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        return True

    receiver = receive(script, authority.serving())
    sender = Sender(Guard(LOOPBACK, lambda host, port: ["127.0.0.1"]), tls=authority.trusting())
    outcomes = [post(sender, receiver.url("hooks.example.com")) for _ in range(2)]
    sender.close()
    assert [(outcome.status, outcome.reused) for outcome in outcomes] == [(200, False)] * 2


def test_an_unknown_authority_is_not_trusted(receive, authority) -> None:
    receiver = receive(answer(), authority.serving())
    sender = Sender(Guard(LOOPBACK, lambda host, port: ["127.0.0.1"]))
    assert post(sender, receiver.url("hooks.example.com")).error_class == "tls"
    assert receiver.requests == []


def test_a_handshake_that_drips_does_not_outlast_the_deadline(hasty) -> None:
    """Each byte is in time for a timeout by call; the whole is not."""
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"\x16\x03\x03\x40\x00")
            while not over.wait(0.02):
                try:
                    connection.sendall(b"\x02")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        outcome = post(hasty, f"https://127.0.0.1:{listener.getsockname()[1]}/")
        over.set()
        thread.join(5)
    assert outcome.error_class in ("connect_timeout", "tls")
    assert outcome.timings.total < 1500


def test_plain_http_behind_https_is_a_tls_error(sender) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        outcome = post(sender, f"https://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join(5)
    assert (outcome.status, outcome.error_class) == (None, "tls")


def test_green_threads_of_eventlet_wait_together(receive, authority) -> None:
    """The pool that delivers is patched by eventlet: a hundred slow receivers cost the time of one."""

    def slow(connection: socket.socket, received: object) -> bool:
        time.sleep(0.3)
        return answer()(connection, received)

    plain = receive(slow)
    tls = receive(slow, authority.serving())
    hanging = receive(hang)
    dripping = receive(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b"x"))
    program = f"""
        import eventlet
        eventlet.monkey_patch()
        import ipaddress, ssl, time, collections
        from service.webhooks.guard import Guard
        from service.webhooks.sender import Limits, OutboundRequest, Sender

        def resolver(host, port):
            time.sleep(0.1)
            return ["127.0.0.1"]

        def post(work):
            sender, url = work
            outcome = sender.send(OutboundRequest(url, b"x" * 1000, {{}}))
            return outcome.status, outcome.error_class, outcome.reused

        guard = Guard([ipaddress.ip_network("127.0.0.0/8")], resolver)
        trusting = ssl.create_default_context(cafile={str(authority.certificate)!r})
        sender = Sender(guard, Limits(connect=3, total=3), trusting)
        hasty = Sender(guard, Limits(connect=0.5, total=0.5))
        work = [(sender, {plain.url("plain.example")!r})] * 60
        work += [(sender, {tls.url("hooks.example.com")!r})] * 20
        work += [(hasty, {hanging.url()!r}), (hasty, {dripping.url()!r})] * 10
        work += [(sender, "http://127.0.0.1:1/"), (Sender(Guard()), "http://127.0.0.1/")] * 2
        pool = eventlet.GreenPool(200)
        began = time.monotonic()
        for round in range(2):
            print(sorted(collections.Counter(pool.imap(post, work)).items(), key=str))
        print(time.monotonic() - began < 4)
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        cwd=Path(__file__).parents[3],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    failures = [
        ((200, "timeout", False), 10),
        ((None, "blocked_address", False), 2),
        ((None, "connection_refused", False), 2),
        ((None, "timeout", False), 10),
    ]
    first, second, quick = done.stdout.splitlines()
    assert first == repr(sorted([((200, None, False), 80), *failures], key=str))
    assert second == repr(sorted([((200, None, True), 80), *failures], key=str))
    assert quick == "True"
