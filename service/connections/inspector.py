"""Reads the schema of a database: tables, views, columns, keys, indexes; of bounded size, with a fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection as OpenConnection

from service.connections.errors import SchemaTooLarge
from service.connections.reader import TABLE, SchemaReader, Table
from service.connections.rows import estimated_rows
from service.connections.urls import Endpoint

MAXIMUM_TABLES = 20_000
MAXIMUM_COLUMNS = 500_000
MAXIMUM_BYTES = 64 * 1024 * 1024
TABLES_AT_ONCE = 250

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Inspection:
    """A schema as JSON, and a fingerprint that changes with it but not with the number of rows."""

    schema: dict[str, Any]
    fingerprint: str

    @property
    def summary(self) -> dict[str, Any]:
        """`{totalTables, totalViews, totalColumns}` of all schemas together."""
        return {name: self.schema[name] for name in ("totalTables", "totalViews", "totalColumns")}


def inspect_schema(connection: OpenConnection, endpoint: Endpoint, progress: Progress) -> Inspection:
    """Read everything but the system's own schemas; `progress` hears the name of each table.

    Raises SchemaTooLarge, and whatever the driver raises.
    """
    reader = SchemaReader(connection, endpoint)
    names = _names(reader)
    schemas: list[dict[str, Any]] = []
    columns = 0
    for schema, kinds in names.items():
        tables: list[Table] = []
        for portion in _portions(sorted(kinds)):
            for table in reader.tables(schema, {name: kinds[name] for name in portion}):
                progress(table["name"] if schema == reader.default_schema else f"{schema}.{table['name']}")
                tables.append(table)
                columns += len(table["columns"])
            if columns > MAXIMUM_COLUMNS:
                raise SchemaTooLarge(f"The database has more than {MAXIMUM_COLUMNS} columns.")
        schemas.append({"name": schema, "tables": tables})
    fingerprint = _fingerprint(schemas)
    for each in schemas:
        rows = estimated_rows(connection, endpoint.engine, each["name"], list(names[each["name"]]))
        for table in each["tables"]:
            table["estimatedRows"] = rows.get(table["name"])
    everything = [table for each in schemas for table in each["tables"]]
    return Inspection(
        schema={
            "engine": endpoint.engine,
            "database": endpoint.database,
            "totalTables": sum(table["kind"] == TABLE for table in everything),
            "totalViews": sum(table["kind"] != TABLE for table in everything),
            "totalColumns": columns,
            "schemas": schemas,
        },
        fingerprint=fingerprint,
    )


def _names(reader: SchemaReader) -> dict[str, dict[str, str]]:
    """The kind of each table and view, by schema and name; first of all, to know how many there are."""
    names: dict[str, dict[str, str]] = {}
    for schema, kinds in reader.names():
        names[schema] = kinds
        if sum(map(len, names.values())) > MAXIMUM_TABLES:
            raise SchemaTooLarge(f"The database has more than {MAXIMUM_TABLES} tables and views.")
    return names


def _portions(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), TABLES_AT_ONCE):
        yield names[start : start + TABLES_AT_ONCE]


def _fingerprint(schemas: Sequence[Mapping[str, Any]]) -> str:
    canonical = json.dumps(schemas, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    if len(canonical) > MAXIMUM_BYTES:
        raise SchemaTooLarge(f"The schema is larger than {MAXIMUM_BYTES // 1024 // 1024} MB.")
    return hashlib.sha256(canonical).hexdigest()
