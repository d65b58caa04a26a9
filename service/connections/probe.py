"""Tries a connection, inside a request: a whole answer within seconds, whatever stands at the other end."""

from __future__ import annotations

import selectors
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ

from service.connections.drivers import connect_mysql, connect_sqlite, postgresql_arguments
from service.connections.errors import DatabaseFailure, DatabaseUnreachable
from service.connections.failures import failures_of
from service.connections.urls import POSTGRESQL, SQLITE, Endpoint
from service.settings import Settings
from service.threads import aside

PROBE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Probe:
    """How a trial went: after `latency_ms` either the server's version or a failure."""

    latency_ms: float
    server_version: str | None = None
    failure: DatabaseFailure | None = None


def probe(endpoint: Endpoint, settings: Settings) -> Probe:
    """Log in, ask something, leave."""
    began = time.monotonic()
    try:
        with failures_of(endpoint):
            version = _version(endpoint, settings)
    except DatabaseFailure as failure:
        return Probe(_since(began), failure=failure)
    return Probe(_since(began), server_version=version)


def _since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 1)


def _version(endpoint: Endpoint, settings: Settings) -> str:
    if endpoint.engine == SQLITE:
        # SQLite waits in C for a file that somebody else has locked.
        return aside(_sqlite_version, endpoint, settings)
    if endpoint.engine == POSTGRESQL:
        return _postgresql_version(endpoint, settings)
    with closing(connect_mysql(endpoint, settings)) as connection:
        connection.ping(reconnect=False)
        return str(connection.get_server_info())


def _sqlite_version(endpoint: Endpoint, settings: Settings) -> str:
    with closing(connect_sqlite(endpoint, settings)) as connection:
        # The file is first read here.
        connection.execute("PRAGMA schema_version").fetchone()
        return str(connection.execute("SELECT sqlite_version()").fetchone()[0])


def _postgresql_version(endpoint: Endpoint, settings: Settings) -> str:
    deadline = time.monotonic() + PROBE_SECONDS
    # Asynchronous, and polled here: under eventlet psycopg2's own waiting knows no timeout, not even of connecting.
    with closing(psycopg2.connect(**postgresql_arguments(endpoint, settings), async_=True)) as connection:
        _wait(connection, deadline)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            _wait(connection, deadline)
        return str(connection.get_parameter_status("server_version"))


def _wait(connection: Any, deadline: float) -> None:
    # eventlet puts its own selector here; the plain one of the threading mode takes descriptors beyond 1,024.
    while (state := connection.poll()) != POLL_OK:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise DatabaseUnreachable("The database did not answer in time.")
        # One of its own each time: libpq may have changed the socket.
        with selectors.DefaultSelector() as selector:
            selector.register(
                connection.fileno(), selectors.EVENT_READ if state == POLL_READ else selectors.EVENT_WRITE
            )
            selector.select(remaining)
