"""About how many rows the tables of a database have: from statistics, or by counting a little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection as OpenConnection
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from service.connections.urls import POSTGRESQL, SQLITE

# Beyond this a SQLite table without statistics is left uncounted.
MAXIMUM_COUNT = 100_000


def estimated_rows(
    connection: OpenConnection, engine: str, schema: str, tables: Sequence[str]
) -> Mapping[str, int | None]:
    """Rows by table; None, or no entry, where nobody knows."""
    if engine == SQLITE:
        return _sqlite_rows(connection, tables)
    statement = _POSTGRESQL if engine == POSTGRESQL else _MYSQL
    return {
        name: None if rows is None else int(rows) for name, rows in connection.execute(statement, {"schema": schema})
    }


# Before its first ANALYZE a table has -1. A partitioned table has the rows of its partitions.
_POSTGRESQL = text(
    """
    SELECT c.relname, CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relkind IN ('r', 'p', 'f', 'm')
    """
)
_MYSQL = text("SELECT table_name, table_rows FROM information_schema.tables WHERE table_schema = :schema")


def _sqlite_rows(connection: OpenConnection, tables: Sequence[str]) -> Mapping[str, int | None]:
    known = _sqlite_statistics(connection)
    quote = connection.dialect.identifier_preparer.quote_identifier
    found = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")
    counted = set(found.scalars())
    rows: dict[str, int | None] = {}
    for name in tables:
        if name not in counted:
            continue
        if name in known:
            rows[name] = known[name]
            continue
        try:
            count = connection.exec_driver_sql(
                f"SELECT count(*) FROM (SELECT 1 FROM main.{quote(name)} LIMIT {MAXIMUM_COUNT + 1})"  # noqa: S608
            ).scalar_one()
        except DBAPIError:
            # A virtual table whose module is not here.
            continue
        rows[name] = count if count <= MAXIMUM_COUNT else None
    return rows


def _sqlite_statistics(connection: OpenConnection) -> dict[str, int]:
    """What the last ANALYZE counted, where there was one; a statistic is "rows, rows per key, …"."""
    try:
        found = connection.exec_driver_sql("SELECT tbl, stat FROM sqlite_stat1").all()
    except DBAPIError:
        return {}
    counts: dict[str, int] = {}
    for table, stat in found:
        first = str(stat).partition(" ")[0]
        if first.isdigit():
            counts[str(table)] = max(int(first), counts.get(str(table), 0))
    return counts
