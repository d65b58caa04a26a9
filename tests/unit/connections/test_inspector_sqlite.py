"""The schema of SQLite files."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.connections import inspector
from service.connections.drivers import connect_sqlite, open_database
from service.connections.errors import DatabaseFailure, FileIsNoDatabase, SchemaTooLarge
from service.connections.inspector import Inspection, inspect_schema
from service.connections.probe import probe
from service.connections.urls import Endpoint, parse_url
from service.settings import Settings

SHOP = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, email VARCHAR(200) NOT NULL UNIQUE, name TEXT DEFAULT 'nobody');
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customers (id) ON DELETE CASCADE,
    total NUMERIC(10, 2)
);
CREATE INDEX ix_orders_total ON orders (total);
CREATE VIEW big_orders AS SELECT * FROM orders WHERE total > 100;
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings that open files of the test's folder."""
    return replace(Settings.from_env({}), connection_sqlite_roots=(tmp_path,))


@pytest.fixture
def endpoint(tmp_path: Path) -> Endpoint:
    """A database file whose name needs quoting."""
    path = tmp_path / "a shop #1?.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SHOP)
        connection.execute("INSERT INTO customers (email) VALUES ('a@example.com'), ('b@example.com')")
        connection.commit()
    return Endpoint(engine="sqlite", database=str(path))


def read(endpoint: Endpoint, settings: Settings, heard: list[str] | None = None) -> Inspection:
    """The schema of a file."""
    with open_database(endpoint, settings) as connection:
        return inspect_schema(connection, endpoint, (heard if heard is not None else []).append)


def table(inspection: Inspection, name: str) -> dict[str, Any]:
    """One table of a schema."""
    (schema,) = inspection.schema["schemas"]
    found: dict[str, Any] = next(each for each in schema["tables"] if each["name"] == name)
    return found


def change(endpoint: Endpoint, statement: str) -> None:
    """Change the file from outside."""
    with closing(sqlite3.connect(str(endpoint.database))) as connection:
        connection.execute(statement)
        connection.commit()


def test_tables_columns_keys_and_indexes(endpoint: Endpoint, settings: Settings) -> None:
    heard: list[str] = []
    inspection = read(endpoint, settings, heard)
    assert heard == ["big_orders", "customers", "orders"]
    assert inspection.summary == {"totalTables": 2, "totalViews": 1, "totalColumns": 9}
    customers, orders = table(inspection, "customers"), table(inspection, "orders")
    assert customers["columns"][0] | {"default": None} == {
        "name": "id",
        "type": "INTEGER",
        "nullable": True,
        "default": None,
        "primaryKey": True,
        "comment": None,
    }
    assert customers["columns"][1]["type"] == "VARCHAR(200)"
    assert customers["columns"][1]["nullable"] is False
    assert customers["columns"][2]["default"] == "'nobody'"
    assert customers["primaryKey"] == {"name": None, "columns": ["id"]}
    assert customers["uniqueConstraints"] == [{"name": None, "columns": ["email"]}]
    assert customers["estimatedRows"] == 2
    assert orders["foreignKeys"] == [
        {
            "name": None,
            "columns": ["customer_id"],
            "referredSchema": "main",
            "referredTable": "customers",
            "referredColumns": ["id"],
            "onDelete": "CASCADE",
            "onUpdate": None,
        }
    ]
    assert orders["indexes"] == [{"name": "ix_orders_total", "columns": ["total"], "unique": False}]
    assert table(inspection, "big_orders")["kind"] == "view"
    json.dumps(inspection.schema)


def test_the_fingerprint_changes_with_the_schema_not_with_the_rows(endpoint: Endpoint, settings: Settings) -> None:
    before = read(endpoint, settings).fingerprint
    change(endpoint, "INSERT INTO customers (email) VALUES ('c@example.com')")
    assert read(endpoint, settings).fingerprint == before
    change(endpoint, "ALTER TABLE customers ADD COLUMN phone TEXT")
    assert read(endpoint, settings).fingerprint != before


def test_a_view_whose_table_is_gone_does_not_end_it(endpoint: Endpoint, settings: Settings) -> None:
    change(endpoint, "DROP TABLE orders")
    inspection = read(endpoint, settings)
    assert table(inspection, "big_orders")["columns"] == []
    assert table(inspection, "customers")["estimatedRows"] == 2


def test_rows_are_told_by_statistics_where_there_are_some(endpoint: Endpoint, settings: Settings) -> None:
    change(endpoint, "ANALYZE")
    change(endpoint, "INSERT INTO customers (email) VALUES ('c@example.com')")
    assert table(read(endpoint, settings), "customers")["estimatedRows"] == 2


def test_a_file_that_is_no_database(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "text.db").write_text("hello " * 1000)
    endpoint = parse_url(f"sqlite:///{tmp_path}/text.db")
    with pytest.raises(FileIsNoDatabase):
        read(endpoint, settings)
    failure = probe(endpoint, settings).failure
    assert failure is not None and failure.code == "file_is_no_database"


def test_nothing_is_written(endpoint: Endpoint, settings: Settings) -> None:
    with closing(connect_sqlite(endpoint, settings)) as connection:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("CREATE TABLE x (y)")
        with pytest.raises(sqlite3.OperationalError):
            connection.execute(f"ATTACH DATABASE '{endpoint.database}.new' AS other")
            connection.execute("CREATE TABLE other.x (y)")


def test_a_probe_tells_the_version(endpoint: Endpoint, settings: Settings) -> None:
    result = probe(endpoint, settings)
    assert result.failure is None
    assert result.server_version == sqlite3.sqlite_version


def test_names_that_are_no_text_are_kept_as_text(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "odd.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute('CREATE TABLE "odd \ufffd name%s" ("a\'b" TEXT DEFAULT \'' + "x" * 5000 + "')")
        connection.commit()
    content = path.read_bytes().replace("\ufffd".encode(), b"\xff\xfe\xfd")
    path.write_bytes(content)
    with pytest.MonkeyPatch.context():
        inspection = read(parse_url(f"sqlite:///{path}"), settings)
    (only,) = inspection.schema["schemas"][0]["tables"]
    json.dumps(inspection.schema).encode()
    assert only["name"].startswith("odd ")
    assert "\x00" not in json.dumps(inspection.schema)


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Limits that two tables exceed."""
    monkeypatch.setattr(inspector, "MAXIMUM_TABLES", 2)
    yield


@pytest.mark.usefixtures("small_limits")
def test_a_database_that_is_too_large_is_refused(endpoint: Endpoint, settings: Settings) -> None:
    with pytest.raises(SchemaTooLarge, match="more than 2 tables"):
        read(endpoint, settings)


def test_too_many_columns_and_too_much_text_are_refused(
    endpoint: Endpoint, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspector, "MAXIMUM_COLUMNS", 8)
    with pytest.raises(SchemaTooLarge, match="columns"):
        read(endpoint, settings)
    monkeypatch.setattr(inspector, "MAXIMUM_COLUMNS", 9)
    monkeypatch.setattr(inspector, "MAXIMUM_BYTES", 100)
    with pytest.raises(DatabaseFailure):
        read(endpoint, settings)


def test_portions_make_no_difference(endpoint: Endpoint, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(endpoint, settings)
    monkeypatch.setattr(inspector, "TABLES_AT_ONCE", 1)
    assert read(endpoint, settings) == whole
