"""The addresses and URLs a webhook may not reach, range by range and trick by trick."""

import ipaddress
import socket
import threading
import time

import pytest

from service.webhooks.guard import MAX_URL_LENGTH, BlockedAddress, Guard, UnsafeURL, check_url

REFUSED = {
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "10.0.0.1": "private",
    "10.255.255.255": "private",
    "100.64.0.1": "shared",
    "100.100.100.200": "shared",
    "100.127.255.255": "shared",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "168.63.129.16": "metadata",
    "169.254.169.254": "metadata",
    "169.254.0.1": "link_local",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.192": "reserved",
    "192.0.2.1": "documentation",
    "192.88.99.1": "reserved",
    "192.168.1.1": "private",
    "198.18.0.1": "benchmark",
    "198.19.255.255": "benchmark",
    "198.51.100.1": "documentation",
    "203.0.113.1": "documentation",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "::": "unspecified",
    "::1": "loopback",
    "::ffff:127.0.0.1": "ipv4_mapped",
    "::ffff:8.8.8.8": "ipv4_mapped",
    "::ffff:a9fe:a9fe": "ipv4_mapped",
    "::127.0.0.1": "ipv4_compatible",
    "::ffff:0:127.0.0.1": "reserved",
    "64:ff9b::7f00:1": "nat64",
    "64:ff9b::808:808": "nat64",
    "64:ff9b:1::a00:1": "nat64",
    "100::1": "reserved",
    "2001::7f00:1": "teredo",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2": "teredo",
    "2001:2::1": "benchmark",
    "2001:10::1": "reserved",
    "2001:20::1": "reserved",
    "2001:db8::1": "documentation",
    "2002:7f00:1::": "6to4",
    "2002:a9fe:a9fe::1": "6to4",
    "3fff::1": "documentation",
    "4000::1": "reserved",
    "5f00::1": "reserved",
    "fc00::1": "private",
    "fd00:ec2::254": "private",
    "fe80::1": "link_local",
    "fe80::1%1": "link_local",
    "febf::1": "link_local",
    "fec0::1": "site_local",
    "ff02::1": "multicast",
}
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "126.255.255.255",
    "128.0.0.1",
    "172.15.255.255",
    "172.32.0.1",
    "192.167.255.255",
    "198.17.255.255",
    "198.20.0.1",
    "223.255.255.255",
    "2001:4860:4860::8888",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
]


@pytest.mark.parametrize(("address", "reason"), REFUSED.items())
def test_special_addresses_are_refused(address: str, reason: str) -> None:
    with pytest.raises(BlockedAddress) as caught:
        Guard().check_address(ipaddress.ip_address(address))
    assert caught.value.reason == reason
    assert address not in str(caught.value)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    Guard().check_address(ipaddress.ip_address(address))


def test_nothing_that_python_calls_special_passes() -> None:
    """A second opinion on the table: the first address of every network that ipaddress knows."""
    for version in (ipaddress.IPv4Address, ipaddress.IPv6Address):
        constants = version._constants
        for network in constants._private_networks:
            with pytest.raises(BlockedAddress):
                Guard().check_address(network[0])
            with pytest.raises(BlockedAddress):
                Guard().check_address(network[-1])


def test_an_allowed_network_lets_its_addresses_through_and_no_other_spelling_of_them() -> None:
    guard = Guard([ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8")])
    guard.check_address(ipaddress.ip_address("10.1.2.3"))
    guard.check_address(ipaddress.ip_address("fd00::1"))
    for address in ("10.2.0.1", "127.0.0.1", "::ffff:10.1.2.3", "64:ff9b::a01:203", "2002:a01:203::1"):
        with pytest.raises(BlockedAddress):
            guard.check_address(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("http://example.com", "example.com", 80, "/"),
        ("HTTPS://Example.COM:8443/a/b?c=d%20e&f[]=1#g", "example.com", 8443, "/a/b?c=d%20e&f[]=1"),
        ("https://example.com.", "example.com.", 443, "/"),
        ("https://example.com?a=1", "example.com", 443, "/?a=1"),
        ("https://bücher.example/ü", "xn--bcher-kva.example", 443, "/%C3%BC"),
        ("https://[2606:4700:0:0::1111]/x", "2606:4700::1111", 443, "/x"),
        ("http://8.8.8.8:81/", "8.8.8.8", 81, "/"),
        ("http://my_service/", "my_service", 80, "/"),
        ("https://example.com/a@b:c", "example.com", 443, "/a@b:c"),
    ],
)
def test_urls_that_pass(url: str, host: str, port: int, path: str) -> None:
    target = check_url(url)
    assert (target.host, target.port, target.path) == (host, port, path)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "length"),
        ("https://example.com/" + "a" * MAX_URL_LENGTH, "length"),
        ("ftp://example.com/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("gopher://example.com/", "scheme"),
        ("//example.com/", "scheme"),
        ("example.com", "scheme"),
        ("https://user@example.com/", "userinfo"),
        ("https://user:password@example.com/", "userinfo"),
        ("https://example.com@127.0.0.1/", "userinfo"),
        ("https:///path", "host"),
        ("https://:443/", "host"),
        ("https://exa%6dple.com/", "host"),
        ("https://a..b/", "host"),
        ("https://-a.example/", "host"),
        ("https://" + "a" * 64 + ".example/", "host"),
        ("https://" + "a." * 127 + "example/", "host"),
        ("https://[::1/", "host"),
        ("https://[fe80::1%25eth0]/", "host"),
        ("https://[127.0.0.1]/", "host"),
        ("https://example.com:0/", "port"),
        ("https://example.com:65536/", "port"),
        ("https://example.com:-1/", "host"),
        ("https://example.com:80:80/", "host"),
        ("https://example.com:\uff18\uff10/", "host"),
        ("https://example.com/\r\nX-Injected: 1", "characters"),
        ("https://example.com/\0", "characters"),
        ("https://example.com/a b", "characters"),
        (" https://example.com/", "characters"),
        ("https://exam\tple.com/", "characters"),
        ("https://example.com\\@127.0.0.1/", "characters"),
        ("https://exam\u200bple.com/", "characters"),
        ("https://exam\u202eple.com/", "characters"),
        ("https://example.com/\x7f", "characters"),
        # 127.0.0.1 as resolvers read it and people do not
        ("http://2130706433/", "numeric_host"),
        ("http://017700000001/", "numeric_host"),
        ("http://0x7f000001/", "numeric_host"),
        ("http://0x7f.1/", "numeric_host"),
        ("http://127.1/", "numeric_host"),
        ("http://127.0.1/", "numeric_host"),
        ("http://0177.0.0.1/", "numeric_host"),
        ("http://0x7f.0.0.1/", "numeric_host"),
        ("http://127.0.0.1./", "numeric_host"),
        ("http://127.0.0.0x1/", "numeric_host"),
        ("http://256.1.1.1/", "numeric_host"),
        ("http://example.0x/", "numeric_host"),
    ],
)
def test_urls_that_are_refused(url: str, reason: str) -> None:
    with pytest.raises(UnsafeURL) as caught:
        check_url(url)
    assert caught.value.reason == reason


@pytest.mark.parametrize("host", ["\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "\u2460\u2461\u2466.0.0.1"])
def test_digits_in_disguise_are_read_as_digits_and_refused(host: str) -> None:
    with pytest.raises(UnsafeURL):
        Guard().check_url(f"http://{host}/")


def test_an_endpoint_with_a_special_address_is_refused_at_once() -> None:
    for url in ("http://127.0.0.1/", "http://[::1]:8080/", "https://169.254.169.254/latest/meta-data"):
        with pytest.raises(UnsafeURL):
            Guard().check_url(url)
        check_url(url)
    Guard([ipaddress.ip_network("127.0.0.0/8")]).check_url("http://127.0.0.1/")


def test_one_bad_address_among_good_ones_refuses_the_name() -> None:
    guard = Guard(resolver=lambda host, port: ["8.8.8.8", "2606:4700:4700::1111", "10.0.0.1"])
    with pytest.raises(BlockedAddress) as caught:
        guard.resolve(check_url("http://mixed.example/"), time.monotonic() + 1)
    assert caught.value.address == "10.0.0.1"


def test_a_name_that_changes_its_answer_gains_nothing() -> None:
    """DNS rebinding: the first answer is judged and used; there is no second question."""
    with socket.create_server(("127.0.0.1", 0)) as allowed, socket.create_server(("127.0.0.2", 0)) as victim:
        port = allowed.getsockname()[1]
        answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]])
        asked: list[str] = []

        def resolver(host: str, port: int) -> list[str]:
            asked.append(host)
            return next(answers)

        guard = Guard([ipaddress.ip_network("127.0.0.1/32")], resolver)
        target = check_url(f"http://rebinding.example:{port}/")
        pinned = guard.connect(target, time.monotonic() + 2)
        with pinned.socket:
            assert asked == ["rebinding.example"]
            assert pinned.address == "127.0.0.1"
            assert pinned.socket.getpeername()[0] == "127.0.0.1"
        with pytest.raises(BlockedAddress):
            guard.connect(target, time.monotonic() + 2)
        victim.settimeout(0)
        with pytest.raises(BlockingIOError):
            victim.accept()


def test_an_address_literal_is_not_resolved() -> None:
    def resolver(host: str, port: int) -> list[str]:
        raise AssertionError("asked")

    guard = Guard(resolver=resolver)
    assert guard.resolve(check_url("http://8.8.8.8/"), 0) == [ipaddress.ip_address("8.8.8.8")]


def test_the_second_address_is_tried_when_the_first_refuses() -> None:
    with socket.create_server(("127.0.0.2", 0)) as listener:
        guard = Guard([ipaddress.ip_network("127.0.0.0/8")], lambda host, port: ["127.0.0.1", "127.0.0.2"])
        target = check_url(f"http://two.example:{listener.getsockname()[1]}/")
        pinned = guard.connect(target, time.monotonic() + 2)
        pinned.socket.close()
        assert pinned.address == "127.0.0.2"


def test_a_dead_name_server_is_left_at_the_deadline() -> None:
    over = threading.Event()

    def resolver(host: str, port: int) -> list[str]:
        over.wait(10)
        return ["8.8.8.8"]

    began = time.monotonic()
    with pytest.raises(socket.gaierror):
        Guard(resolver=resolver).resolve(check_url("http://slow.example/"), began + 0.1)
    over.set()
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("answer", [[], None])
def test_a_name_without_addresses_is_a_resolver_error(answer: list[str] | None) -> None:
    def resolver(host: str, port: int) -> list[str]:
        if answer is None:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return answer

    with pytest.raises(socket.gaierror):
        Guard(resolver=resolver).resolve(check_url("http://none.example/"), time.monotonic() + 1)


def test_the_system_resolver_finds_the_loopback_and_the_guard_refuses_it() -> None:
    with pytest.raises(BlockedAddress):
        Guard().resolve(check_url("http://localhost/"), time.monotonic() + 3)
