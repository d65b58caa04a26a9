"""What the drivers raise, as failures of ours: with a stable code, and without the URL."""

from __future__ import annotations

import re
import sqlite3
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, quote_plus

import psycopg2
import pymysql.err
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from service.connections.errors import (
    DatabaseError,
    DatabaseFailure,
    DatabaseNotFound,
    DatabaseUnreachable,
    FileIsNoDatabase,
    InvalidCredentials,
    PermissionDenied,
    StatementTimeout,
    TlsFailed,
)
from service.connections.urls import Endpoint

MAXIMUM_MESSAGE_LENGTH = 300
# A password so short occurs in any text: hiding it would show where it does.
SHORTEST_HIDDEN = 4

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRESQL_CODES: dict[str, type[DatabaseFailure]] = {
    "28P01": InvalidCredentials,
    "28000": InvalidCredentials,
    "3D000": DatabaseNotFound,
    "42501": PermissionDenied,
    "57014": StatementTimeout,
    "57P01": DatabaseUnreachable,
    "57P02": DatabaseUnreachable,
    "57P03": DatabaseUnreachable,
    "53300": DatabaseUnreachable,
}
# libpq tells no code for a refused log-in, only the server's words. A server that speaks another language than
# English is taken for unreachable, and tried again in vain.
_POSTGRESQL_WORDS: tuple[tuple[str, type[DatabaseFailure], str | None], ...] = (
    (r"no pg_hba\.conf entry|not permitted to log in|permission denied", PermissionDenied, None),
    (r"authentication failed|no password supplied|role \".*\" does not exist", InvalidCredentials, None),
    (
        r"authentication method|not supported by this|channel binding",
        PermissionDenied,
        "The database asks for a way to log in that is not supported.",
    ),
    (r"database \".*\" does not exist", DatabaseNotFound, None),
    (r"does not support SSL|certificate|SSL error|SSL negotiation", TlsFailed, None),
    (r"statement timeout", StatementTimeout, None),
)
# https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html and its MariaDB counterpart
_MYSQL_CODES: dict[int, type[DatabaseFailure]] = {
    1044: PermissionDenied,
    1045: InvalidCredentials,
    1049: DatabaseNotFound,
    1130: PermissionDenied,
    1142: PermissionDenied,
    1143: PermissionDenied,
    1227: PermissionDenied,
    1370: PermissionDenied,
    1698: InvalidCredentials,
    1969: StatementTimeout,
    3024: StatementTimeout,
    3159: TlsFailed,
    1040: DatabaseUnreachable,
    1053: DatabaseUnreachable,
    2002: DatabaseUnreachable,
    2003: DatabaseUnreachable,
    2006: DatabaseUnreachable,
    2013: DatabaseUnreachable,
}
_SQLITE_WORDS: tuple[tuple[str, type[DatabaseFailure]], ...] = (
    (r"unable to open", DatabaseNotFound),
    (r"not a database|malformed|unsupported file format", FileIsNoDatabase),
    (r"locked|busy", DatabaseUnreachable),
    (r"interrupted", StatementTimeout),
)


@contextmanager
def failures_of(endpoint: Endpoint) -> Iterator[None]:
    """Turn what a driver raises inside into a DatabaseFailure."""
    try:
        yield
    except (SQLAlchemyError, psycopg2.Error, pymysql.err.Error, sqlite3.Error, OSError) as error:
        # Without the driver's exception: a traceback would show its text, which may quote anything.
        raise failure_of(error, endpoint) from None
    except (struct.error, UnicodeError, IndexError):
        # PyMySQL reads what a stranger's server says with these.
        raise DatabaseError("The server does not speak the protocol that it should.") from None


def failure_of(error: BaseException, endpoint: Endpoint) -> DatabaseFailure:
    """The failure that an exception of a driver, of SQLAlchemy or of a socket stands for."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    if isinstance(error, psycopg2.Error):
        return _of_postgresql(error, endpoint)
    if isinstance(error, pymysql.err.Error):
        return _of_mysql(error, endpoint)
    if isinstance(error, sqlite3.Error):
        return _of_sqlite(error, endpoint)
    if isinstance(error, ssl.SSLError):
        return TlsFailed()
    if isinstance(error, OSError):
        return DatabaseUnreachable()
    return DatabaseError(clean_message(error, endpoint))


def _of_postgresql(error: psycopg2.Error, endpoint: Endpoint) -> DatabaseFailure:
    if error.pgcode is not None:
        known = _POSTGRESQL_CODES.get(error.pgcode)
        return known() if known else DatabaseError(clean_message(error, endpoint))
    text = str(error)
    for pattern, kind, message in _POSTGRESQL_WORDS:
        if re.search(pattern, text):
            return kind(message)
    if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        return DatabaseUnreachable()
    return DatabaseError(clean_message(error, endpoint))


def _of_mysql(error: pymysql.err.Error, endpoint: Endpoint) -> DatabaseFailure:
    if isinstance(getattr(error, "original_exception", None), ssl.SSLError):
        return TlsFailed()
    number = error.args[0] if error.args else None
    if isinstance(number, int):
        known = _MYSQL_CODES.get(number)
        if known is not None:
            return known()
        if number == 2026 or "SSL" in str(error.args[-1]):
            return TlsFailed()
    return DatabaseError(clean_message(error, endpoint))


def _of_sqlite(error: sqlite3.Error, endpoint: Endpoint) -> DatabaseFailure:
    text = str(error)
    for pattern, kind in _SQLITE_WORDS:
        if re.search(pattern, text):
            return kind()
    return DatabaseError(clean_message(error, endpoint))


def clean_message(error: BaseException, endpoint: Endpoint) -> str:
    """The first line of an exception without the password and without URLs, at most 300 characters."""
    text = str(error.args[-1] if isinstance(error, pymysql.err.Error) and error.args else error)
    password = endpoint.password or ""
    if password and len(password) < SHORTEST_HIDDEN:
        return "The database refused a statement."
    line = next(iter(text.replace("\x00", "").splitlines()), "")
    for form in sorted({password, quote(password, safe=""), quote_plus(password)} - {""}, key=len, reverse=True):
        line = line.replace(form, "***")
    line = re.sub(r"\b[a-z][a-z0-9+]*://\S+", "***", line)
    return line[:MAXIMUM_MESSAGE_LENGTH] or "The database refused a statement."
