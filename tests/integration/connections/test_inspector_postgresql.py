"""The schema of a real PostgreSQL."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg2
import pytest

from service.connections import inspector
from service.connections.drivers import open_database, postgresql_arguments
from service.connections.errors import AddressRefused, DatabaseError, InvalidCredentials, StatementTimeout
from service.connections.inspector import Inspection, inspect_schema
from service.connections.urls import Endpoint, parse_url
from service.ids import new_id
from service.settings import Settings
from tests.conftest import Servers

SETTINGS = Settings.from_env({})

SHOP = """
CREATE SCHEMA sales;
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TABLE customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email varchar(200) NOT NULL CONSTRAINT one_email UNIQUE,
    name text DEFAULT 'nobody',
    feeling mood,
    place point,
    shouted text GENERATED ALWAYS AS (upper(name)) STORED
);
COMMENT ON TABLE customers IS 'Who buys';
COMMENT ON COLUMN customers.email IS 'Where to write';
CREATE TABLE sales.orders (
    customer_id bigint NOT NULL,
    number int NOT NULL,
    total numeric(10, 2) CHECK (total > 0),
    placed_at timestamptz DEFAULT now(),
    tags text[],
    PRIMARY KEY (customer_id, number),
    CONSTRAINT buyer FOREIGN KEY (customer_id) REFERENCES public.customers (id) ON DELETE CASCADE ON UPDATE RESTRICT
);
CREATE INDEX by_total ON sales.orders (total);
CREATE UNIQUE INDEX by_day ON sales.orders (number, (lower(total::text)));
CREATE VIEW sales.big AS SELECT * FROM sales.orders WHERE total > 100;
CREATE MATERIALIZED VIEW sales.sums AS SELECT customer_id, sum(total) AS total FROM sales.orders GROUP BY 1;
CREATE TABLE measured (at date NOT NULL, value float8) PARTITION BY RANGE (at);
CREATE TABLE measured_2024 PARTITION OF measured FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE "Odd %s 'name'" ("a%b 'c'" int);
INSERT INTO customers (email) SELECT n || '@example.com' FROM generate_series(1, 300) n;
ANALYZE customers;
"""


@pytest.fixture
def endpoint(servers: Servers) -> Iterator[Endpoint]:
    """A database with two schemas."""
    name = f"shop_{new_id().hex[-12:]}"
    url = servers.postgres.create_database(name)
    change(url, SHOP)
    yield parse_url(url)
    servers.postgres.drop_database(name)


def change(target: str | Endpoint, statement: str) -> None:
    """Change a database from outside."""
    connection = psycopg2.connect(
        target if isinstance(target, str) else psycopg2.extensions.make_dsn(**postgresql_arguments(target, SETTINGS))
    )
    connection.autocommit = True
    try:
        connection.cursor().execute(statement)
    finally:
        connection.close()


def read(endpoint: Endpoint, heard: list[str] | None = None) -> Inspection:
    """The schema of a database."""
    with open_database(endpoint, SETTINGS) as connection:
        return inspect_schema(connection, endpoint, (heard if heard is not None else []).append)


def table(inspection: Inspection, schema: str, name: str) -> dict[str, Any]:
    """One table of a schema."""
    tables = next(each["tables"] for each in inspection.schema["schemas"] if each["name"] == schema)
    found: dict[str, Any] = next(each for each in tables if each["name"] == name)
    return found


def column(table: dict[str, Any], name: str) -> dict[str, Any]:
    """One column of a table."""
    found: dict[str, Any] = next(each for each in table["columns"] if each["name"] == name)
    return found


def test_schemas_tables_columns_and_comments(endpoint: Endpoint) -> None:
    heard: list[str] = []
    inspection = read(endpoint, heard)
    assert [schema["name"] for schema in inspection.schema["schemas"]] == ["public", "sales"]
    assert "customers" in heard and "sales.orders" in heard
    assert inspection.summary == {"totalTables": 5, "totalViews": 2, "totalColumns": 23}
    customers = table(inspection, "public", "customers")
    assert (customers["kind"], customers["comment"], customers["estimatedRows"]) == ("table", "Who buys", 300)
    assert column(customers, "email") == {
        "name": "email",
        "type": "VARCHAR(200)",
        "nullable": False,
        "default": None,
        "primaryKey": False,
        "comment": "Where to write",
    }
    assert column(customers, "id")["default"] == "GENERATED ALWAYS AS IDENTITY"
    assert column(customers, "id")["primaryKey"] is True
    assert column(customers, "name")["default"] == "'nobody'::text"
    assert column(customers, "feeling")["type"] == "public.mood"
    # SQLAlchemy does not know it; the server does.
    assert column(customers, "place")["type"] == "point"
    assert column(customers, "shouted")["default"] == "GENERATED ALWAYS AS (upper(name))"
    assert table(inspection, "public", "Odd %s 'name'")["columns"][0]["name"] == "a%b 'c'"
    assert table(inspection, "public", "measured")["kind"] == "table"
    assert table(inspection, "public", "measured")["estimatedRows"] is None
    json.dumps(inspection.schema)


def test_keys_indexes_and_constraints(endpoint: Endpoint) -> None:
    inspection = read(endpoint)
    customers, orders = table(inspection, "public", "customers"), table(inspection, "sales", "orders")
    assert customers["uniqueConstraints"] == [{"name": "one_email", "columns": ["email"]}]
    assert customers["indexes"] == []
    assert orders["primaryKey"] == {"name": "orders_pkey", "columns": ["customer_id", "number"]}
    assert orders["foreignKeys"] == [
        {
            "name": "buyer",
            "columns": ["customer_id"],
            "referredSchema": "public",
            "referredTable": "customers",
            "referredColumns": ["id"],
            "onDelete": "CASCADE",
            "onUpdate": "RESTRICT",
        }
    ]
    assert [(index["name"], index["unique"]) for index in orders["indexes"]] == [("by_day", True), ("by_total", False)]
    assert orders["indexes"][0]["columns"][0] == "number"
    assert "lower(" in orders["indexes"][0]["columns"][1]
    assert column(orders, "tags")["type"] == "TEXT[]"
    assert column(orders, "total")["type"] == "NUMERIC(10, 2)"
    assert table(inspection, "sales", "big")["kind"] == "view"
    assert table(inspection, "sales", "sums")["kind"] == "materialized view"
    assert len(table(inspection, "sales", "sums")["columns"]) == 2


def test_the_fingerprint(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(endpoint).fingerprint
    change(endpoint, "INSERT INTO customers (email) VALUES ('x'); ANALYZE")
    assert read(endpoint).fingerprint == first
    monkeypatch.setattr(inspector, "TABLES_AT_ONCE", 1)
    assert read(endpoint).fingerprint == first
    change(endpoint, "COMMENT ON TABLE customers IS 'Who bought'")
    assert read(endpoint).fingerprint != first


def test_nothing_can_be_written(endpoint: Endpoint) -> None:
    with pytest.raises(DatabaseError, match="read-only"), open_database(endpoint, SETTINGS) as connection:
        connection.exec_driver_sql("CREATE TABLE x ()")


def test_nothing_takes_for_ever(endpoint: Endpoint) -> None:
    with pytest.raises(StatementTimeout), open_database(endpoint, SETTINGS) as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "1min"
        connection.exec_driver_sql("SET LOCAL statement_timeout = 200")
        connection.exec_driver_sql("SELECT pg_sleep(30)")


def test_the_environment_lends_nothing(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", endpoint.password or "")
    monkeypatch.setenv("PGOPTIONS", "-c application_name=borrowed")
    monkeypatch.setenv("PGSSLMODE", "require")
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    monkeypatch.setenv("PGAPPNAME", "borrowed")
    with open_database(endpoint, SETTINGS) as connection:
        assert connection.exec_driver_sql("SHOW application_name").scalar_one() == "carillon"
    with pytest.raises(InvalidCredentials), open_database(replace(endpoint, password=None), SETTINGS):
        pass


def test_the_checked_address_is_the_one_connected_to(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = replace(endpoint, host="db.invalid")
    # Whoever asked a resolver once more would not get here.
    monkeypatch.setattr("service.connections.policy._resolve", lambda host, port: ["127.0.0.1"])
    only_loopback = replace(SETTINGS, connection_networks=(ipaddress.ip_network("127.0.0.0/8"),))
    with open_database(elsewhere, only_loopback) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
    only_ten = replace(SETTINGS, connection_networks=(ipaddress.ip_network("10.0.0.0/8"),))
    with pytest.raises(AddressRefused), open_database(elsewhere, only_ten):
        pass
