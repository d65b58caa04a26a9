"""The database: base class, column types, transactions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

import psycopg2
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Connection, DateTime, MetaData, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session, registry
from sqlalchemy.types import TypeDecorator

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class UTCDateTime(TypeDecorator[datetime]):
    """A moment with its zone, always UTC; refuses naive times."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Refuses naive datetimes (ValueError)."""
        if value is not None and value.tzinfo is None:
            raise ValueError("naive datetime")
        return value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """The moment in UTC, whatever zone the server speaks."""
        return value.astimezone(UTC) if value is not None else None


class Base(DeclarativeBase):
    """Base of every table."""

    # Flask-SQLAlchemy derives a base of its own from this one, and SQLAlchemy 2.1 lets only a registry be inherited.
    registry = registry(
        metadata=MetaData(naming_convention=NAMING),
        type_annotation_map={
            datetime: UTCDateTime(),
            UUID: Uuid(),
            dict[str, Any]: JSONB(none_as_null=True),
        },
    )


class Database(SQLAlchemy):
    """Flask-SQLAlchemy, whose session leaves nothing to be said at the end of a request."""

    def _teardown_session(self, exc: BaseException | None) -> None:
        try:
            super()._teardown_session(exc)
        except DBAPIError:
            # The connection broke after the last statement: what was answered stands, and nobody waits for a rollback.
            self.session.registry.clear()


db = Database(model_class=Base, disable_autonaming=True)
migrate = Migrate(directory="migrations")

Row = Mapping[str, Any]


@contextmanager
def transaction(*, is_single: bool = False) -> Iterator[Session]:
    """One unit of work: commits at the end, rolls back on any exception; one inside another joins it.

    What was registered with `after_commit` runs once the outermost has committed. `is_single`: the unit is one
    statement, which stands or falls as a whole by itself and is spared the round trips of BEGIN and COMMIT.
    """
    session = db.session()
    if "after_commit" in session.info:
        yield session
        return
    callbacks: list[Callable[[], None]] = []
    session.info["after_commit"] = callbacks
    try:
        if is_single:
            with _autocommitting(session):
                yield session
        else:
            yield session
            session.commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        del session.info["after_commit"]
    for callback in callbacks:
        callback()


@contextmanager
def _autocommitting(session: Session) -> Iterator[None]:
    """A connection for `fetch_all` on which each statement is a transaction of its own; the session keeps none."""
    if session.in_transaction():
        # What was read before holds a connection: a rush of requests that wait for a second one would starve the pool.
        assert not (session.new or session.dirty or session.deleted)
        session.rollback()
    with db.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        # Past SQLAlchemy, whose change of isolation level costs the round trip that this is to spare.
        driver.autocommit = True
        session.info["single"] = connection
        try:
            yield
        finally:
            del session.info["single"]
            if not driver.closed:
                driver.autocommit = False


@contextmanager
def savepoint() -> Iterator[None]:
    """A part of the present transaction that may fail by itself: it is undone, and the exception goes on."""
    session = db.session()
    callbacks = session.info["after_commit"]
    before = len(callbacks)
    try:
        with session.begin_nested():
            yield
    except BaseException:
        del callbacks[before:]
        raise


def after_commit(callback: Callable[[], None]) -> None:
    """Run `callback` once the present transaction has committed; never if it rolls back."""
    # SQLAlchemy's own after_commit event also fires when a savepoint is released.
    db.session().info["after_commit"].append(callback)


class _Prepared(NamedTuple):
    """A statement as the server keeps it: `PREPARE` once a connection, `EXECUTE` each time."""

    name: str
    prepare: str
    execute: str


# Prepared twice, not prepared, or prepared for a table that has changed since: a new connection knows better.
STALE_PLANS = frozenset({"42P05", "26000", "0A000"})

# Two transactions that stood in each other's way.
CONFLICTS = frozenset({"40001", "40P01"})
# The class of what is too deep, too long or too much for the server: no other time will do better.
LIMIT_EXCEEDED = "54"

_PARAMETER = re.compile(r"%\((\w+)\)s")


@cache
def _prepared(statement: str) -> _Prepared:
    names = list(dict.fromkeys(_PARAMETER.findall(statement)))
    numbered = _PARAMETER.sub(lambda match: f"${names.index(match[1]) + 1}", statement).replace("%%", "%")
    name = "s" + hashlib.sha1(statement.encode(), usedforsecurity=False).hexdigest()[:16]
    values = f"({', '.join(f'%({each})s' for each in names)})" if names else ""
    return _Prepared(name, f"PREPARE {name} AS {numbered}", f"EXECUTE {name}{values}")


def fetch_all(statement: str, parameters: Mapping[str, Any]) -> Sequence[Row]:
    """Rows of a constant statement with `%(name)s` parameters, run in the present transaction.

    For the statements on a job's way. The server plans each once a connection, which otherwise costs it several times
    what the statement itself does, and no ORM objects are built. JSON columns come as text. Raises what SQLAlchemy
    raises, but for what exceeds the server's limits, such as JSON that is nested too deeply: that is a DataError too.
    """
    session = db.session()
    connection: Connection = session.info.get("single") or session.connection()
    prepared = _prepared(statement)
    raw: Any = connection.connection
    try:
        with raw.cursor() as cursor:
            if prepared.name not in connection.info:
                cursor.execute(prepared.prepare)
                connection.info[prepared.name] = True
            cursor.execute(prepared.execute, parameters)
            if cursor.description is None:
                return []
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    except psycopg2.Error as error:
        dialect = connection.dialect
        is_gone = dialect.is_disconnect(error, raw, None)
        if is_gone:
            # As SQLAlchemy does for its own statements: the connections that are as old are gone too, and each of them
            # would otherwise fail somebody.
            db.engine.pool._invalidate(raw, error)
        if is_gone or error.pgcode in STALE_PLANS:
            connection.invalidate(error)
        if error.pgcode is not None and error.pgcode.startswith(LIMIT_EXCEEDED):
            # By psycopg2 it would be an OperationalError, as if the server were away.
            raise DataError(statement, None, error) from error
        raise DBAPIError.instance(
            statement, None, error, psycopg2.Error, connection_invalidated=is_gone, dialect=dialect
        ) from error
    except BaseException:
        # A time limit may strike between a statement's preparation and the note of it.
        connection.invalidate()
        raise


def is_passing(error: Exception) -> bool:
    """Whether a whole transaction that failed so may do better another time, and no part of it could go on now."""
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or getattr(error.orig, "pgcode", None) in CONFLICTS | STALE_PLANS


def fetch_one(statement: str, parameters: Mapping[str, Any]) -> Row | None:
    """The first row of `fetch_all`, or None."""
    rows = fetch_all(statement, parameters)
    return rows[0] if rows else None
