"""Opens a registered database: at a checked address, within seconds, to read only.

The drivers take much from where they run: environment variables, files in the home folder, client certificates,
Kerberos tickets. A stranger's URL must not borrow any of it, so whatever could be taken is given.
"""

from __future__ import annotations

import socket
import sqlite3
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from threading import Timer
from typing import Any
from urllib.parse import quote

import psycopg2
import pymysql
from sqlalchemy import Connection as OpenConnection
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from service.connections.failures import failures_of
from service.connections.policy import allowed_addresses, allowed_file
from service.connections.urls import POSTGRESQL, SQLITE, Endpoint
from service.settings import Settings

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 60
# SQLite knows no timeout of a statement: all of them together may take as long as this.
SQLITE_SECONDS = 600
SQLITE_STEPS_BETWEEN_LOOKS = 100_000
# A path that cannot exist, where libpq would otherwise look in the home folder.
NO_FILE = "/dev/null/none"


@contextmanager
def open_database(endpoint: Endpoint, settings: Settings) -> Iterator[OpenConnection]:
    """A connection in one read-only transaction, whose statements may take 60 s each; raises DatabaseFailure."""
    with failures_of(endpoint):
        engine = _engine(endpoint, settings)
        try:
            with engine.connect() as connection:
                if endpoint.engine == POSTGRESQL:
                    # LOCAL: behind a pooler that lends connections by transaction, a setting of the session would
                    # stay for whoever comes next.
                    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {STATEMENT_SECONDS * 1000}")
                yield connection
        finally:
            engine.dispose()


def _engine(endpoint: Endpoint, settings: Settings) -> Engine:
    if endpoint.engine == SQLITE:
        return create_engine("sqlite://", creator=lambda: connect_sqlite(endpoint, settings), poolclass=NullPool)
    if endpoint.engine == POSTGRESQL:
        return create_engine(
            "postgresql+psycopg2://",
            creator=lambda: _connect_postgresql(endpoint, settings),
            poolclass=NullPool,
            # hstore is looked up by a query at each connect, and nobody reads data here.
            use_native_hstore=False,
        )
    return create_engine(
        f"{endpoint.engine}+pymysql://", creator=lambda: _connect_to_read_mysql(endpoint, settings), poolclass=NullPool
    )


def _connect_postgresql(endpoint: Endpoint, settings: Settings) -> Any:
    connection = psycopg2.connect(**postgresql_arguments(endpoint, settings))
    # BEGIN READ ONLY for each transaction rather than a parameter of the start-up, which poolers refuse.
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    return connection


def postgresql_arguments(endpoint: Endpoint, settings: Settings) -> dict[str, Any]:
    """The arguments of `psycopg2.connect` for an endpoint; the host's name is for its certificate only."""
    addresses = allowed_addresses(endpoint, settings)
    return {
        "host": ",".join([str(endpoint.host)] * len(addresses)),
        "hostaddr": ",".join(addresses),
        "port": endpoint.port,
        "dbname": endpoint.database,
        "user": endpoint.username,
        "password": endpoint.password or "",
        "passfile": NO_FILE,
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "carillon",
        "client_encoding": "utf8",
        "sslmode": "prefer",
        "sslcert": NO_FILE,
        "sslkey": NO_FILE,
        "gssencmode": "disable",
        "require_auth": "password,md5,scram-sha-256,none",
        "options": "",
        "target_session_attrs": "any",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        **endpoint.options,
    }


def _connect_to_read_mysql(endpoint: Endpoint, settings: Settings) -> Any:
    connection = connect_mysql(endpoint, settings)
    limit = (
        f"max_statement_time = {STATEMENT_SECONDS}"
        if "MariaDB" in connection.get_server_info()
        else f"max_execution_time = {STATEMENT_SECONDS * 1000}"
    )
    with closing(connection.cursor()) as cursor:
        cursor.execute(f"SET SESSION {limit}")
        cursor.execute("SET SESSION TRANSACTION READ ONLY")
    return connection


def connect_mysql(endpoint: Endpoint, settings: Settings) -> Any:
    """A PyMySQL connection over a socket of ours, the handshake done within 5 s."""
    opened = _open_socket(allowed_addresses(endpoint, settings), endpoint.port or 0)
    # PyMySQL's own timeout is for each read: a server that sends byte by byte would hold us for ever. The duplicate
    # stays ours when TLS takes the socket over.
    duplicate = opened.dup()
    watchdog = Timer(CONNECT_SECONDS, _cut, [duplicate])
    watchdog.daemon = True
    watchdog.start()
    try:
        connection = pymysql.connect(
            host=endpoint.host,
            port=endpoint.port,
            user=endpoint.username,
            password=(endpoint.password or "").encode(),
            database=endpoint.database,
            charset="utf8mb4",
            connect_timeout=CONNECT_SECONDS,
            read_timeout=STATEMENT_SECONDS + CONNECT_SECONDS,
            write_timeout=CONNECT_SECONDS,
            local_infile=False,
            defer_connect=True,
            **_mysql_tls(endpoint.options.get("ssl-mode", "PREFERRED").upper()),
        )
        connection.connect(opened)
    except BaseException:
        opened.close()
        raise
    finally:
        watchdog.cancel()
        duplicate.close()
    return connection


def _cut(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _mysql_tls(mode: str) -> dict[str, Any]:
    if mode == "DISABLED":
        return {"ssl_disabled": True}
    if mode == "PREFERRED":
        return {}
    context = ssl.create_default_context()
    context.check_hostname = mode == "VERIFY_IDENTITY"
    if mode == "REQUIRED":
        context.verify_mode = ssl.CERT_NONE
    return {"ssl": context}


def _open_socket(addresses: list[str], port: int) -> socket.socket:
    ends = time.monotonic() + CONNECT_SECONDS
    for tried, address in enumerate(addresses, start=1):
        share = max((ends - time.monotonic()) / (len(addresses) - tried + 1), 0.1)
        try:
            opened = socket.create_connection((address, port), share)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError:
            if tried == len(addresses):
                raise
        else:
            return opened
    raise ConnectionRefusedError


def connect_sqlite(endpoint: Endpoint, settings: Settings) -> sqlite3.Connection:
    """A connection to an existing file, never written, never made; its statements may take ten minutes together."""
    path = allowed_file(endpoint, settings)
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro", uri=True, timeout=CONNECT_SECONDS, check_same_thread=False
    )
    ends = time.monotonic() + SQLITE_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > ends, SQLITE_STEPS_BETWEEN_LOOKS)
    # Any bytes can stand where SQLite expects text.
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    connection.execute("PRAGMA query_only = ON")
    # The functions that the schema of a stranger's file calls are not to be trusted.
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection
