"""Webhooks that leave by a proxy: real tunnels, the proxy's faults, and what it is never asked for."""

import base64
import ipaddress
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from service.settings import Settings, SettingsError
from service.webhooks.guard import Guard
from service.webhooks.proxy import Proxy
from service.webhooks.sender import Limits, Sender
from tests.unit.webhooks.scripts import answer, drip, hang, post, raw, tunnel

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
QUICK = Limits(connect=0.4, total=1.0)
LOCAL = Guard(LOOPBACK, lambda host, port: ["127.0.0.1"])


@pytest.fixture
def through() -> Iterator[Callable[..., Sender]]:
    senders: list[Sender] = []

    def make(proxy: str, guard: Guard = LOCAL, limits: Limits | None = None, **tls: object) -> Sender:
        senders.append(Sender(guard, limits, proxy=Proxy(proxy), **tls))
        return senders[-1]

    yield make
    for sender in senders:
        sender.close()


def test_a_plain_request_goes_through_a_tunnel_that_is_kept(receive, through) -> None:
    receiver, other = receive(answer()), receive(answer(body=b"other"))
    proxy = receive(tunnel)
    sender = through(f"http://us%40er:pass%3Aword@127.0.0.1:{proxy.port}")
    places = [receiver, receiver, other, receiver, other]
    outcomes = [post(sender, place.url("hooks.example.com")) for place in places]
    assert [(o.status, o.body, o.reused) for o in outcomes] == [
        (200, "{}", False),
        (200, "{}", True),
        (200, "other", False),
        (200, "{}", True),
        (200, "other", True),
    ]
    assert {outcome.address for outcome in outcomes} == {"127.0.0.1"}
    assert [request.start for request in proxy.requests] == [
        f"CONNECT 127.0.0.1:{receiver.port} HTTP/1.1",
        f"CONNECT 127.0.0.1:{other.port} HTTP/1.1",
    ]
    assert proxy.requests[0].headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "user-agent": "Carillon-Webhooks/1.0",
        "proxy-authorization": "Basic " + base64.b64encode(b"us@er:pass:word").decode(),
    }
    assert receiver.requests[0].start == "POST /hook HTTP/1.1"
    assert receiver.requests[0].headers["host"] == f"hooks.example.com:{receiver.port}"
    assert "proxy-authorization" not in receiver.requests[0].headers


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_tls_with_the_name_of_the_url_goes_inside(receive, through, authority, monkeypatch, scheme: str) -> None:
    """Also where the proxy itself is spoken to by TLS, whose authority only this system trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    receiver = receive(answer(), authority.serving())
    proxy = receive(tunnel, authority.serving() if scheme == "https" else None)
    sender = through(f"{scheme}://localhost:{proxy.port}", tls=authority.trusting())
    outcomes = [post(sender, receiver.url("hooks.example.com"), b"x" * 100_000) for _ in range(2)]
    assert [(o.status, o.error, o.reused) for o in outcomes] == [(200, "", False), (200, "", True)]
    assert [len(request.body) for request in receiver.requests] == [100_000] * 2
    assert [request.start for request in proxy.requests] == [f"CONNECT 127.0.0.1:{receiver.port} HTTP/1.1"]
    assert "proxy-authorization" not in proxy.requests[0].headers
    assert post(sender, receiver.url("other.example.com")).error_class == "tls"


@pytest.mark.parametrize(
    ("script", "error_class"),
    [
        (answer("502 Bad Gateway"), "unreachable"),
        (answer("504 Gateway Timeout"), "connect_timeout"),
        (answer("407 Proxy Authentication Required"), "proxy"),
        (answer("403 Forbidden"), "proxy"),
        (answer("301 Moved", headers="Location: http://127.0.0.1/\r\n"), "proxy"),
        (answer("503 Service Unavailable"), "proxy"),
        (raw(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "proxy"),
        (raw(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), "proxy"),
        (raw(b"SSH-2.0-OpenSSH_9.6\r\n"), "proxy"),
        (raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000, wait=0.05), "proxy"),
        (raw(b"HTTP/1.1 20"), "proxy"),
        (raw(), "proxy"),
        (hang, "proxy"),
        (drip(b"HTTP/1.1 200 ", b"O"), "proxy"),
        (drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "proxy"),
        # In the tunnel it is the receiver that speaks.
        (raw(b"HTTP/1.1 200 OK\r\n\r\n", wait=0.05), "connection_reset"),
    ],
)
def test_what_the_proxy_answers(receive, through, script, error_class: str) -> None:
    proxy = receive(script)
    sender = through(f"http://user:topsecret@127.0.0.1:{proxy.port}", limits=QUICK)
    outcome = post(sender, "http://hooks.example.com:8080/")
    assert (outcome.status, outcome.error_class) == (None, error_class)
    assert outcome.timings.total < 900
    assert proxy.requests[0].start == "CONNECT 127.0.0.1:8080 HTTP/1.1"
    for secret in ("topsecret", "dXNlcjp", "127.0.0.1", str(proxy.port)):
        assert secret not in outcome.error


def test_a_proxy_that_is_not_there_is_its_own_fault(receive, through, authority) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    plain, secure = receive(hang), receive(hang, authority.serving())
    for url in (
        f"http://127.0.0.1:{closed}",
        "http://proxy.invalid:3128",
        "http://a..b:3128",
        f"https://localhost:{plain.port}",  # speaks no TLS
        f"https://localhost:{secure.port}",  # of an authority that nobody trusts
    ):
        outcome = post(through(url, limits=QUICK), "https://hooks.example.com/")
        assert (outcome.status, outcome.error_class, outcome.address) == (None, "proxy", None), url
        assert "localhost" not in outcome.error
        assert outcome.timings.total < 900


def test_the_next_address_is_asked_for_when_the_proxy_cannot_reach_one(receive, through) -> None:
    receiver = receive(answer())

    def script(connection: socket.socket, received) -> bool:
        if "127.0.0.2" in received.start:
            return answer("502 Bad Gateway")(connection, received) and False
        return tunnel(connection, received)

    proxy = receive(script)
    guard = Guard(LOOPBACK, lambda host, port: ["127.0.0.2", "127.0.0.1"])
    outcome = post(through(f"http://127.0.0.1:{proxy.port}", guard), receiver.url("two.example"))
    assert (outcome.status, outcome.address) == (200, "127.0.0.1")
    assert len(proxy.requests) == 2


def test_the_proxy_is_asked_for_addresses_that_the_guard_lets_through_and_for_nothing_else(receive, through) -> None:
    proxy = receive(answer("502 Bad Gateway"))
    answers: dict[str, list[str]] = {
        "inner.example": ["10.0.0.1"],
        "mixed.example": ["8.8.8.8", "169.254.169.254"],
        "mapped.example": ["::ffff:127.0.0.1"],
        "zone.example": ["fe80::1%1"],
        "public.example": ["2606:4700:4700::1111"],
    }
    sender = through(f"http://127.0.0.1:{proxy.port}", Guard(resolver=lambda host, port: answers[host]))
    hosts = [host for host in answers if host != "public.example"]
    hosts += ["127.0.0.1", "[::1]", "169.254.169.254", "2130706433", "0x7f.1", "127.0.0.1.", "[64:ff9b::7f00:1]"]
    for host in hosts:
        for scheme in ("http", "https"):
            assert post(sender, f"{scheme}://{host}:{proxy.port}/").error_class == "blocked_address", host
    assert proxy.connections == 0
    post(sender, "https://8.8.8.8/")
    post(sender, "http://public.example/")
    assert [request.start for request in proxy.requests] == [
        "CONNECT 8.8.8.8:443 HTTP/1.1",
        "CONNECT [2606:4700:4700::1111]:80 HTTP/1.1",
    ]


def test_a_name_that_is_bound_anew_is_judged_anew_before_the_proxy_hears_of_it(receive, through) -> None:
    receiver = receive(answer())
    proxy = receive(tunnel)
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    guard = Guard([ipaddress.ip_network("127.0.0.1/32")], lambda host, port: next(answers))
    sender = through(f"http://127.0.0.1:{proxy.port}", guard)
    assert [post(sender, receiver.url("turning.example")).status for _ in range(2)] == [200, 200]
    sender.close()
    assert post(sender, receiver.url("turning.example")).error_class == "blocked_address"
    assert len(proxy.requests) == 1


def test_a_slow_proxy_has_the_time_of_connecting_and_no_more(receive, through) -> None:
    def slow(connection: socket.socket, received) -> bool:
        time.sleep(0.3)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while connection.recv(4096):
            pass
        return False

    proxy = receive(slow)
    # The tunnel stands after 0.3 s; the handshake within it has what is left of 0.4 s.
    outcome = post(through(f"http://127.0.0.1:{proxy.port}", limits=QUICK), "https://hooks.example.com/")
    assert (outcome.status, outcome.error_class) == (None, "connect_timeout")
    assert 350 < outcome.timings.total < 650


@pytest.mark.parametrize(
    "url",
    [
        "http://proxy:3128",
        "https://proxy.example.com:443/",
        "http://user:p%40ss@10.0.0.1:8080",
        "http://user@[fd00::1]:3128",
    ],
)
def test_a_proxy_that_settings_take(url: str) -> None:
    assert Settings.from_env({"WEBHOOK_PROXY_URL": url}).webhook_proxy_url == url
    Proxy(url)


@pytest.mark.parametrize(
    "url",
    [
        "proxy:3128",
        "http://proxy",
        "http://proxy:0",
        "http://proxy:65536",
        "http://proxy:port",
        "socks5://proxy:1080",
        "http://user:topsecret@",
        "http://user:top/secret@proxy:3128",
        "http://user:topsecret@proxy@more:3128",
        "http://:topsecret@proxy:3128",
        "http://proxy:3128/path",
        "http://proxy:3128?topsecret",
        "http://[fd00:::1]:3128",
        "http://proxy:3128\r\nX-Injected: topsecret",
    ],
)
def test_a_proxy_that_settings_refuse_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingsError, match="WEBHOOK_PROXY_URL") as caught:
        Settings.from_env({"WEBHOOK_PROXY_URL": url})
    assert "secret" not in str(caught.value)
