"""Which servers and files this installation opens."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.connections.errors import AddressRefused, DatabaseNotFound, DatabaseUnreachable
from service.connections.policy import allowed_addresses, allowed_file, check_place
from service.connections.urls import parse_url
from service.settings import Settings

TEN = ipaddress.ip_network("10.0.0.0/8")


def settings(**changes: Any) -> Settings:
    """Settings of a development machine, but for the changes."""
    return replace(Settings.from_env({}), **changes)


def answer(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Let every name resolve to these addresses; the list fills with the names that were asked."""
    asked: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


def test_a_name_is_resolved_to_the_addresses_that_are_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, "10.0.0.1", "10.0.0.2", "10.0.0.1")
    endpoint = parse_url("postgresql://a:b@db.example.com/x")
    assert allowed_addresses(endpoint, settings(connection_networks=(TEN,))) == ["10.0.0.1", "10.0.0.2"]
    assert asked == ["db.example.com"]


def test_one_address_that_is_not_allowed_refuses_all(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "10.0.0.1", "169.254.169.254")
    with pytest.raises(AddressRefused):
        allowed_addresses(parse_url("postgresql://a:b@db/x"), settings(connection_networks=(TEN,)))


def test_any_address_where_no_networks_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "127.0.0.1")
    assert allowed_addresses(parse_url("mysql://a:b@db/x"), settings(connection_networks=None)) == ["127.0.0.1"]


def test_no_address_where_the_networks_are_empty() -> None:
    for url in ("postgresql://a:b@10.0.0.1/x", "mysql://a:b@db/x"):
        with pytest.raises(AddressRefused):
            check_place(parse_url(url), settings(connection_networks=()))
    with pytest.raises(AddressRefused):
        allowed_addresses(parse_url("postgresql://a:b@10.0.0.1/x"), settings(connection_networks=()))


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "11.0.0.1"])
def test_an_address_outside_the_networks_is_refused_at_once(host: str) -> None:
    with pytest.raises(AddressRefused):
        check_place(parse_url(f"postgresql://a:b@{host}/x"), settings(connection_networks=(TEN,)))


def test_other_spellings_of_an_address_are_judged_as_what_they_resolve_to() -> None:
    for host in ("2130706433", "0x7f.1", "127.1"):
        with pytest.raises((AddressRefused, DatabaseUnreachable)):
            allowed_addresses(parse_url(f"postgresql://a:b@{host}/x"), settings(connection_networks=(TEN,)))


def test_a_name_that_nobody_knows_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(DatabaseUnreachable):
        allowed_addresses(parse_url("postgresql://a:b@db/x"), settings())


def test_a_sqlite_file_lies_below_a_root_after_links_are_resolved(tmp_path: Path) -> None:
    roots = (tmp_path / "databases",)
    roots[0].mkdir()
    (roots[0] / "shop.db").touch()
    (tmp_path / "secret.db").touch()
    (roots[0] / "link.db").symlink_to(tmp_path / "secret.db")
    (roots[0] / "folder.db").mkdir()
    allowed = settings(connection_sqlite_roots=roots)
    assert allowed_file(parse_url(f"sqlite:///{roots[0]}/shop.db"), allowed) == (roots[0] / "shop.db").resolve()
    for refused in (f"{tmp_path}/secret.db", f"{roots[0]}/link.db", f"{roots[0]}/../secret.db", "/etc/passwd"):
        with pytest.raises(AddressRefused):
            check_place(parse_url(f"sqlite:///{refused}"), allowed)
    for missing in ("nothing.db", "folder.db"):
        with pytest.raises(DatabaseNotFound):
            allowed_file(parse_url(f"sqlite:///{roots[0]}/{missing}"), allowed)
    assert not (roots[0] / "nothing.db").exists()
