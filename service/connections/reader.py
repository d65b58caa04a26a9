"""What SQLAlchemy's inspector knows of tables, as JSON.

It is asked for a portion of tables at a time, by the few statements a portion that it has for many tables at once: so
a thousand tables take seconds, and what is in memory stays small.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection as OpenConnection
from sqlalchemy import inspect, text
from sqlalchemy.engine import Inspector
from sqlalchemy.engine.reflection import ObjectKind, ObjectScope
from sqlalchemy.exc import CompileError, DBAPIError, SAWarning, SQLAlchemyError
from sqlalchemy.types import NullType, TypeEngine

from service.connections.sqlite_schema import add_actions, is_automatic, overlooked_constraints
from service.connections.urls import POSTGRESQL, SQLITE, Endpoint

MAXIMUM_TEXT = 2_000

TABLE = "table"
VIEW = "view"
MATERIALIZED_VIEW = "materialized view"

_SYSTEM_SCHEMAS = {"information_schema", "pg_catalog", "mysql", "performance_schema", "sys"}

Table = dict[str, Any]


class SchemaReader:
    """SQLAlchemy's inspector, for the three kinds of servers; what it gives is JSON."""

    def __init__(self, connection: OpenConnection, endpoint: Endpoint) -> None:
        self._connection = connection
        self._endpoint = endpoint
        self._inspector: Inspector = inspect(connection)
        self.default_schema = self._inspector.default_schema_name
        if endpoint.engine == POSTGRESQL:
            # With nothing on the search path the server names the schema of all that a definition refers to;
            # otherwise a foreign key into `public` would seem to stay in the schema it comes from.
            connection.exec_driver_sql("SET LOCAL search_path = ''")

    def names(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Each schema with the kinds of its tables and views, by name."""
        for schema in self._schemas():
            kinds = dict.fromkeys(self._inspector.get_table_names(schema=schema), TABLE)
            kinds |= dict.fromkeys(self._inspector.get_view_names(schema=schema), VIEW)
            if self._endpoint.engine == POSTGRESQL:
                views = self._inspector.get_materialized_view_names(schema=schema)
                kinds |= dict.fromkeys(views, MATERIALIZED_VIEW)
            yield schema, kinds

    def _schemas(self) -> list[str]:
        if self._endpoint.engine == SQLITE:
            return ["main"]
        if self._endpoint.engine != POSTGRESQL and self._endpoint.database:
            # What MySQL calls a database is a schema here; the URL names the one that is meant.
            return [self._endpoint.database]
        return sorted(set(self._inspector.get_schema_names()) - _SYSTEM_SCHEMAS)

    def tables(self, schema: str, kinds: Mapping[str, str]) -> Iterator[Table]:
        """The named tables and views of a schema, in the order of their names."""
        # What is remembered of one portion is of no use for the next.
        self._inspector.clear_cache()
        read = self._of_all(schema, list(kinds))
        types = self._unrecognized_types(schema, read["columns"])
        for name in sorted(kinds):
            yield self._table(schema, name, kinds[name], read, types)

    def _of_all(self, schema: str, names: list[str]) -> dict[str, dict[str, Any]]:
        methods: dict[str, Callable[..., Any]] = {
            "columns": self._inspector.get_multi_columns,
            "primary_key": self._inspector.get_multi_pk_constraint,
            "foreign_keys": self._inspector.get_multi_foreign_keys,
            "indexes": self._inspector.get_multi_indexes,
            "unique": self._inspector.get_multi_unique_constraints,
        }
        if self._endpoint.engine == SQLITE:
            methods["indexes"] = partial(self._inspector.get_multi_indexes, include_auto_indexes=True)
        if self._connection.dialect.supports_comments:
            methods["comment"] = self._inspector.get_multi_table_comment
        read: dict[str, dict[str, Any]] = {}
        with warnings.catch_warnings():
            # "Did not recognize type": answered below.
            warnings.simplefilter("ignore", SAWarning)
            for key, method in methods.items():
                read[key] = self._ask(method, schema, names)
        if self._endpoint.engine == SQLITE:
            add_actions(self._connection, read["foreign_keys"])
        return read

    def _ask(self, method: Callable[..., Any], schema: str, names: list[str]) -> dict[str, Any]:
        def ask(wanted: list[str]) -> dict[str, Any]:
            found = method(schema=schema, filter_names=wanted, kind=ObjectKind.ANY, scope=ObjectScope.ANY)
            return {name: value for (_, name), value in found.items()}

        try:
            return ask(names)
        except DBAPIError as error:
            if self._endpoint.engine == POSTGRESQL or error.connection_invalidated:
                raise
        # A view whose table is gone breaks the whole portion: read one by one, and go without it.
        found: dict[str, Any] = {}
        for name in names:
            try:
                found |= ask([name])
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise
            except SQLAlchemyError:
                continue
        return found

    def _unrecognized_types(self, schema: str, columns: Mapping[str, Any]) -> Mapping[tuple[str, str], str]:
        """The names of types that extensions brought along, which SQLAlchemy does not know."""
        if self._endpoint.engine != POSTGRESQL:
            return {}
        tables = [name for name, each in columns.items() if any(isinstance(one["type"], NullType) for one in each)]
        if not tables:
            return {}
        found = self._connection.execute(
            text(
                """
                SELECT c.relname, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)
                FROM pg_catalog.pg_attribute a
                JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
                JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = :schema AND c.relname = ANY(:tables) AND a.attnum > 0 AND NOT a.attisdropped
                """
            ),
            {"schema": schema, "tables": tables},
        )
        return {(table, column): name for table, column, name in found}

    def _table(
        self,
        schema: str,
        name: str,
        kind: str,
        read: Mapping[str, Mapping[str, Any]],
        types: Mapping[tuple[str, str], str],
    ) -> Table:
        primary = read["primary_key"].get(name) or {}
        keys = primary.get("constrained_columns") or []
        indexes = read["indexes"].get(name) or []
        unique = [*(read["unique"].get(name) or [])]
        unique += overlooked_constraints(indexes, [keys, *(each["column_names"] for each in unique)])
        unique_names = {constraint["name"] for constraint in unique if constraint["name"]}
        return {
            "name": _clean(name),
            "kind": kind,
            "comment": _clean((read.get("comment", {}).get(name) or {}).get("text")),
            "columns": [
                {
                    "name": _clean(column["name"]),
                    "type": self._type(column["type"], types.get((name, column["name"]))),
                    "nullable": bool(column["nullable"]),
                    "default": _clean(_default(column)),
                    "primaryKey": column["name"] in keys,
                    "comment": _clean(column.get("comment")),
                }
                for column in read["columns"].get(name) or []
            ],
            "primaryKey": {"name": _clean(primary.get("name")), "columns": _all_clean(keys)} if keys else None,
            "foreignKeys": sorted(
                (_foreign_key(key, schema) for key in read["foreign_keys"].get(name) or []), key=_by_name
            ),
            # A unique constraint is kept by an index of its name, which says nothing more.
            "indexes": sorted(
                (_index(index) for index in indexes if index["name"] not in unique_names and not is_automatic(index)),
                key=_by_name,
            ),
            "uniqueConstraints": sorted(
                ({"name": _clean(each["name"]), "columns": _all_clean(each["column_names"])} for each in unique),
                key=_by_name,
            ),
        }

    def _type(self, column_type: TypeEngine[Any], name: str | None) -> str:
        if isinstance(column_type, NullType):
            return _clean(name) or "unknown"
        try:
            return _clean(column_type.compile(dialect=self._connection.dialect)) or "unknown"
        except CompileError:
            return "unknown"


def _default(column: Mapping[str, Any]) -> str | None:
    if column.get("computed"):
        return f"GENERATED ALWAYS AS ({column['computed']['sqltext']})"
    if column.get("identity"):
        return f"GENERATED {'ALWAYS' if column['identity'].get('always') else 'BY DEFAULT'} AS IDENTITY"
    default = column.get("default")
    return None if default is None else str(default)


def _foreign_key(key: Mapping[str, Any], schema: str) -> dict[str, Any]:
    options = key.get("options") or {}
    return {
        "name": _clean(key["name"]),
        "columns": _all_clean(key["constrained_columns"]),
        "referredSchema": _clean(key["referred_schema"] or schema),
        "referredTable": _clean(key["referred_table"]),
        "referredColumns": _all_clean(key["referred_columns"]),
        "onDelete": _clean(options.get("ondelete")),
        "onUpdate": _clean(options.get("onupdate")),
    }


def _index(index: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": _clean(index["name"]),
        "columns": _all_clean(index.get("expressions") or index["column_names"]),
        "unique": bool(index["unique"]),
    }


def _by_name(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["name"] or "", ",".join(item["columns"])


def _clean(value: str | None) -> str | None:
    """Text that PostgreSQL's JSON takes, of bounded length; of a longer one the end is a hash, so a change shows."""
    if value is None:
        return None
    text_ = str(value).replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    if len(text_) <= MAXIMUM_TEXT:
        return text_
    return f"{text_[:MAXIMUM_TEXT]}… sha256:{hashlib.sha256(text_.encode()).hexdigest()[:16]}"


def _all_clean(values: Sequence[str | None]) -> list[str]:
    return [_clean(value) or "" for value in values]
