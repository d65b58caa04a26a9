"""Which databases this installation may open: networks for servers, folders for SQLite files.

A name is resolved once, all its addresses are judged, and those very addresses are connected to: a name server that
answers differently the second time (DNS rebinding) is never asked a second time.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

from service.connections.errors import AddressRefused, DatabaseNotFound, DatabaseUnreachable
from service.connections.urls import SQLITE, Endpoint, as_address
from service.settings import Network, Settings

RESOLVE_SECONDS = 5.0
# A name with more addresses is tried at the first ones; all of them are judged.
MAXIMUM_ADDRESSES = 3


def check_place(endpoint: Endpoint, settings: Settings) -> None:
    """Refuse, when a connection is registered, what could never be opened; raises AddressRefused.

    Names are not resolved: what one answers today says nothing about the day it is opened.
    """
    if endpoint.engine == SQLITE:
        _inside_roots(endpoint, settings.connection_sqlite_roots)
        return
    networks = settings.connection_networks
    if networks is None:
        return
    if not networks:
        raise AddressRefused("This installation allows no connections to database servers.")
    assert endpoint.host is not None
    if as_address(endpoint.host) is not None:
        _check_addresses([endpoint.host], networks)


def allowed_addresses(endpoint: Endpoint, settings: Settings) -> list[str]:
    """The checked addresses of a server, in the order to try them.

    One that is not allowed refuses all: an honest name has none. Raises AddressRefused and DatabaseUnreachable.
    """
    assert endpoint.host is not None and endpoint.port is not None
    addresses = [endpoint.host] if as_address(endpoint.host) else _resolve(endpoint.host, endpoint.port)
    if settings.connection_networks is not None:
        _check_addresses(addresses, settings.connection_networks)
    return addresses[:MAXIMUM_ADDRESSES]


def allowed_file(endpoint: Endpoint, settings: Settings) -> Path:
    """The file of a SQLite database, with symbolic links resolved; raises AddressRefused and DatabaseNotFound."""
    path = _inside_roots(endpoint, settings.connection_sqlite_roots)
    if not path.is_file():
        raise DatabaseNotFound("There is no such database file.")
    return path


def _inside_roots(endpoint: Endpoint, roots: Sequence[Path]) -> Path:
    assert endpoint.database is not None
    try:
        path = Path(endpoint.database).resolve()
    except (OSError, RuntimeError, ValueError):
        path = None
    # The same words whether the file exists or not: nobody learns what lies outside.
    if path is None or not any(path.is_relative_to(root.resolve()) for root in roots):
        raise AddressRefused("This installation opens SQLite databases in its own folder only.")
    return path


def _check_addresses(addresses: Sequence[str], networks: Sequence[Network]) -> None:
    for text in addresses:
        # An address is compared as it is written: 10.0.0.0/8 does not allow ::ffff:10.0.0.1.
        address = ipaddress.ip_address(text)
        if not any(address in network for network in networks):
            raise AddressRefused


def _resolve(host: str, port: int) -> list[str]:
    # getaddrinfo takes no timeout and a dead name server costs it half a minute: it gets a thread of its own,
    # which ends by itself when nobody listens any more.
    answers: list[list[str]] = []
    done = threading.Event()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.append(list(dict.fromkeys(str(entry[4][0]) for entry in found)))
        except (OSError, UnicodeError):
            pass
        finally:
            done.set()

    threading.Thread(target=ask, name="connection-resolver", daemon=True).start()
    if not done.wait(RESOLVE_SECONDS) or not answers or not answers[0]:
        raise DatabaseUnreachable("The name of the host cannot be resolved.")
    return [address for address in answers[0] if "%" not in address]
