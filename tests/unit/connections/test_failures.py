"""What drivers raise becomes a stable code and a message without secrets."""

from __future__ import annotations

import inspect
import sqlite3
import ssl
import traceback

import psycopg2
import pymysql
import pytest

from service.connections import errors
from service.connections.errors import DatabaseFailure, PermanentFailure
from service.connections.failures import failure_of, failures_of
from service.connections.urls import parse_url
from tasks.jobs.database.schema_rebuild import schema_rebuild
from tasks.outcome import describe

ENDPOINT = parse_url("postgresql://reader:pa%2Fss%20word@db.example.com/shop")


@pytest.mark.parametrize(
    ("error", "code", "is_permanent"),
    [
        (
            psycopg2.OperationalError('FATAL:  password authentication failed for user "reader"'),
            "invalid_credentials",
            True,
        ),
        (psycopg2.OperationalError('FATAL:  role "reader" does not exist'), "invalid_credentials", True),
        (psycopg2.OperationalError('FATAL:  database "shop" does not exist'), "database_not_found", True),
        (psycopg2.OperationalError('FATAL:  no pg_hba.conf entry for host "10.0.0.1"'), "permission_denied", True),
        (psycopg2.OperationalError("server does not support SSL, but SSL was required"), "tls_failed", True),
        (psycopg2.OperationalError("connection refused"), "database_unreachable", False),
        (psycopg2.OperationalError("timeout expired"), "database_unreachable", False),
        (psycopg2.ProgrammingError("what is this"), "database_error", False),
        (pymysql.err.OperationalError(1045, "Access denied"), "invalid_credentials", True),
        (pymysql.err.OperationalError(1044, "Access denied"), "permission_denied", True),
        (pymysql.err.OperationalError(1049, "Unknown database"), "database_not_found", True),
        (pymysql.err.OperationalError(2003, "Can't connect"), "database_unreachable", False),
        (pymysql.err.OperationalError(2013, "Lost connection"), "database_unreachable", False),
        (pymysql.err.OperationalError(3024, "interrupted"), "statement_timeout", False),
        (sqlite3.OperationalError("unable to open database file"), "database_not_found", True),
        (sqlite3.DatabaseError("file is not a database"), "file_is_no_database", True),
        (sqlite3.OperationalError("database is locked"), "database_unreachable", False),
        (ssl.SSLCertVerificationError("certificate verify failed"), "tls_failed", True),
        (ConnectionRefusedError(), "database_unreachable", False),
    ],
)
def test_the_kind_of_a_failure(error: Exception, code: str, is_permanent: bool) -> None:
    failure = failure_of(error, ENDPOINT)
    assert failure.code == code
    assert isinstance(failure, PermanentFailure) == is_permanent


@pytest.mark.parametrize(
    "kind", [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, DatabaseFailure)]
)
def test_a_job_shows_the_code_of_the_failure(kind: type[DatabaseFailure]) -> None:
    assert schema_rebuild is not None
    shown = describe(kind(), (PermanentFailure,))
    assert shown["code"] == kind.code
    assert shown["retryable"] == (not issubclass(kind, PermanentFailure))
    assert shown["message"]


def test_a_message_holds_neither_password_nor_url() -> None:
    text = "no: pa/ss word, pa%2Fss%20word, pa%2Fss+word, postgresql://reader:pa%2Fss%20word@db/shop\nmore"
    message = failure_of(psycopg2.DataError(text), ENDPOINT).message
    assert message == "no: ***, ***, ***, ***"


def test_a_short_password_lets_no_message_through() -> None:
    endpoint = parse_url("postgresql://reader:ab@db/shop")
    assert "ab" not in failure_of(psycopg2.DataError("cab"), endpoint).message.replace("database", "")


def test_no_traceback_shows_what_the_driver_said() -> None:
    said = "".join(["sec", "ret"])
    with pytest.raises(DatabaseFailure) as caught, failures_of(ENDPOINT):
        raise psycopg2.OperationalError(said)
    assert said not in "".join(traceback.format_exception(caught.value))
