"""The addresses and URLs a webhook may not reach, range by range and trick by trick."""

import ipaddress
import socket
import threading
import time

import pytest

from service.webhooks.guard import (
    MAX_URL_LENGTH,
    BlockedAddress,
    Guard,
    IPAddress,
    UnsafeURL,
    check_url,
    system_resolver,
)

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


# Every block of IANA's special-purpose registries, globally reachable or not, and multicast.
SPECIAL = [
    ipaddress.ip_network(block)
    for block in (
        *("0.0.0.0/8", "0.0.0.0/32", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.0.0/29", "192.0.0.8/32", "192.0.0.9/32", "192.0.0.10/32", "192.0.0.170/32"),
        *("192.0.0.171/32", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.88.99.2/32"),
        *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4"),
        *("240.0.0.0/4", "255.255.255.255/32"),
        *("::1/128", "::/128", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64"),
        *("2001::/23", "2001::/32", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:2::/48", "2001:3::/32"),
        *("2001:4:112::/48", "2001:10::/28", "2001:20::/28", "2001:30::/28", "2001:db8::/32", "2002::/16"),
        *("2620:4f:8000::/48", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "ff00::/8"),
    )
]


def is_allowed(address: IPAddress) -> bool:
    try:
        Guard().check_address(address)
    except BlockedAddress:
        return False
    return True


def test_every_special_range_is_refused_to_its_ends_and_not_beyond() -> None:
    unicast_v6 = ipaddress.IPv6Network("2000::/3")
    for network in SPECIAL:
        assert not is_allowed(network[0]), network
        assert not is_allowed(network[-1]), network
        for number in (int(network[0]) - 1, int(network[-1]) + 1):
            if 0 <= number < 2**network.max_prefixlen:
                neighbour = type(network[0])(number)
                is_unicast = neighbour.version == 4 or neighbour in unicast_v6
                is_special = any(neighbour in other for other in SPECIAL)
                assert is_allowed(neighbour) is (is_unicast and not is_special), neighbour


def test_no_form_of_ipv6_that_carries_ipv4_passes() -> None:
    """Whatever it carries: who unpacks it stands elsewhere and obeys other rules."""
    for address in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.0.1", "0.0.0.0", "8.8.8.8"):
        inner = int(ipaddress.IPv4Address(address))
        forms = {
            "compatible": inner,
            "mapped": 0xFFFF << 32 | inner,
            "translated": 0xFFFF << 48 | inner,
            "nat64": 0x64FF9B << 96 | inner,
            "local nat64": 0x64FF9B0001 << 80 | inner,
            "6to4": 0x2002 << 112 | inner << 80 | 1,
            "teredo server": 0x20010000 << 96 | inner << 64,
            "teredo client": 0x20010000 << 96 | inner ^ 0xFFFFFFFF,
            "isatap": 0xFE80 << 112 | 0x5EFE << 32 | inner,
        }
        for form, number in forms.items():
            assert not is_allowed(ipaddress.IPv6Address(number)), (form, address)


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
        ("https://[fe80::1%eth0]/", "host"),
        ("https://[::1]@example.com/", "userinfo"),
        ("https://example.com:80@127.0.0.1:80/", "userinfo"),
        ("https://@127.0.0.1/", "userinfo"),
        ("https://127.0.0.1%2eexample.com/", "host"),
        ("https://127.0.0.1%00.example.com/", "host"),
        ("https://example.com,127.0.0.1/", "host"),
        ("https://[::1].example.com/", "host"),
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
        ("http://127.0.0.1../", "host"),
        ("http://0/", "numeric_host"),
        ("http://0x/", "numeric_host"),
        ("http://00000000177.0.0.1/", "numeric_host"),
        ("http://1.0x7f000001/", "numeric_host"),
        ("http://4294967297/", "numeric_host"),
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


def dial(address: IPAddress, port: int, deadline: float) -> socket.socket:
    return socket.create_connection((str(address), port), deadline - time.monotonic())


@pytest.mark.parametrize(
    "answer", ["fe80::1%1", "::1%lo", "fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::7f00:1"]
)
def test_what_a_resolver_may_say_of_an_inner_address_is_refused(answer: str) -> None:
    def no_dial(address: IPAddress, port: int, deadline: float) -> None:
        raise AssertionError("dialled")

    guard = Guard(resolver=lambda host, port: ["2606:4700:4700::1111", answer])
    with pytest.raises(BlockedAddress):
        guard.connect(check_url("http://inner.example/"), time.monotonic() + 1, no_dial)


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
        pinned = guard.connect(target, time.monotonic() + 2, dial)
        with pinned.way:
            assert asked == ["rebinding.example"]
            assert pinned.address == "127.0.0.1"
            assert pinned.way.getpeername()[0] == "127.0.0.1"
        with pytest.raises(BlockedAddress):
            guard.connect(target, time.monotonic() + 2, dial)
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
        pinned = guard.connect(target, time.monotonic() + 2, dial)
        pinned.way.close()
        assert pinned.address == "127.0.0.2"


def test_an_address_that_does_not_answer_leaves_time_for_the_next() -> None:
    given: list[float] = []

    def slow(address: IPAddress, port: int, deadline: float) -> str:
        given.append(deadline)
        if len(given) < 3:
            time.sleep(max(0.0, deadline - time.monotonic()))
            raise TimeoutError
        return "reached"

    began = time.monotonic()
    guard = Guard(resolver=lambda host, port: ["1.1.1.1", "8.8.8.8", "9.9.9.9"])
    pinned = guard.connect(check_url("http://three.example/"), began + 0.3, slow)
    assert (pinned.way, pinned.address) == ("reached", "9.9.9.9")
    assert [round(deadline - began, 1) for deadline in given] == [0.1, 0.2, 0.3]


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


@pytest.mark.parametrize("host", ["a" * 64, "a..b", "\udcff"])
def test_a_name_that_cannot_be_asked_for_is_a_resolver_error(host: str) -> None:
    with pytest.raises(socket.gaierror):
        system_resolver(host, 80)


def test_the_system_resolver_finds_the_loopback_and_the_guard_refuses_it() -> None:
    with pytest.raises(BlockedAddress):
        Guard().resolve(check_url("http://localhost/"), time.monotonic() + 3)
