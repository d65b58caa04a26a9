"""The schema of a real MariaDB or MySQL, where one is installed."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from devstack.ports import free_port
from service.connections.drivers import open_database
from service.connections.errors import (
    DatabaseError,
    DatabaseFailure,
    DatabaseNotFound,
    InvalidCredentials,
    PermissionDenied,
)
from service.connections.inspector import inspect_schema
from service.connections.probe import probe
from service.connections.urls import parse_url
from service.settings import Settings
from tests.acceptance.waiting import until

SETTINGS = Settings.from_env({})
PASSWORD = "maître d'or"

SHOP = """
CREATE DATABASE shop;
CREATE DATABASE other;
CREATE TABLE shop.customers (
    id BIGINT AUTO_INCREMENT PRIMARY KEY, email VARCHAR(200) NOT NULL COMMENT 'Where to write', name TEXT,
    feeling ENUM('glad', 'sad') DEFAULT 'glad', UNIQUE KEY one_email (email)) COMMENT 'Who buys';
CREATE TABLE shop.orders (
    id INT PRIMARY KEY, customer_id BIGINT NOT NULL, total DECIMAL(10, 2) DEFAULT 0,
    INDEX by_total (total), CONSTRAINT buyer FOREIGN KEY (customer_id) REFERENCES customers (id) ON DELETE CASCADE);
CREATE TABLE shop.gone (id INT);
CREATE VIEW shop.big AS SELECT * FROM shop.orders WHERE total > 100;
CREATE VIEW shop.broken AS SELECT * FROM shop.gone;
DROP TABLE shop.gone;
CREATE TABLE other.notes (id INT PRIMARY KEY);
INSERT INTO shop.customers (email) VALUES ('a'), ('b');
ANALYZE TABLE shop.customers;
CREATE USER reader@'%' IDENTIFIED BY "maître d'or";
GRANT SELECT, SHOW VIEW ON shop.* TO reader@'%';
GRANT SELECT ON other.* TO reader@'%';
CREATE DATABASE closed
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server with the shop in it."""
    path = os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"
    server, install = shutil.which("mariadbd", path=path), shutil.which("mariadb-install-db", path=path)
    if server is None or install is None:
        pytest.skip("no MariaDB server is installed on this machine")
    folder: Path = tmp_path_factory.mktemp("mariadb")
    data, user = folder / "data", f"--user={getpass.getuser()}"
    subprocess.run(
        [
            install,
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            user,
        ],
        check=True,
    )
    port = free_port()
    process = subprocess.Popen(
        [
            server,
            "--no-defaults",
            f"--datadir={data}",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            f"--socket={folder}/socket",
            f"--pid-file={folder}/pid",
            "--skip-name-resolve",
            user,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _fill(port)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _fill(port: int) -> None:
    with until(lambda: _connected(port), "a connection to MariaDB", 30) as connection, connection.cursor() as cursor:
        for statement in SHOP.split(";\n"):
            cursor.execute(statement)


def _connected(port: int) -> pymysql.Connection | None:
    try:
        return pymysql.connect(host="127.0.0.1", port=port, user="root", autocommit=True)
    except pymysql.err.OperationalError:
        return None


def address(port: int, database: str = "shop", password: str = "ma%C3%AEtre%20d%27or", query: str = "") -> str:
    """The URL of a database on the server."""
    return f"mysql://reader:{password}@127.0.0.1:{port}/{database}{query}"


def test_tables_keys_indexes_and_views(port: int) -> None:
    endpoint = parse_url(address(port))
    heard: list[str] = []
    with open_database(endpoint, SETTINGS) as connection:
        inspection = inspect_schema(connection, endpoint, heard.append)
    (schema,) = inspection.schema["schemas"]
    assert schema["name"] == "shop"
    assert heard == ["big", "broken", "customers", "orders"]
    tables: dict[str, dict[str, Any]] = {table["name"]: table for table in schema["tables"]}
    assert {name: table["kind"] for name, table in tables.items()} == {
        "big": "view",
        "broken": "view",
        "customers": "table",
        "orders": "table",
    }
    customers, orders = tables["customers"], tables["orders"]
    assert customers["comment"] == "Who buys"
    assert customers["estimatedRows"] == 2
    assert customers["columns"][1]["type"].startswith("VARCHAR(200)")
    assert customers["columns"][1]["comment"] == "Where to write"
    assert customers["primaryKey"]["columns"] == ["id"]
    assert customers["uniqueConstraints"] == [{"name": "one_email", "columns": ["email"]}]
    assert customers["indexes"] == []
    assert {"name": "by_total", "columns": ["total"], "unique": False} in orders["indexes"]
    (key,) = orders["foreignKeys"]
    assert (key["name"], key["referredTable"], key["referredSchema"]) == ("buyer", "customers", "shop")
    assert key["onDelete"] == "CASCADE"
    assert len(tables["big"]["columns"]) == 3
    assert tables["broken"]["columns"] == []
    json.dumps(inspection.schema)


def test_without_a_database_all_that_the_user_sees(port: int) -> None:
    endpoint = parse_url(address(port, ""))
    with open_database(endpoint, SETTINGS) as connection:
        inspection = inspect_schema(connection, endpoint, lambda _: None)
    assert [schema["name"] for schema in inspection.schema["schemas"]] == ["other", "shop"]


def test_a_probe_tells_the_version(port: int) -> None:
    result = probe(parse_url(address(port, query="?ssl-mode=DISABLED")), SETTINGS)
    assert result.failure is None
    assert result.server_version is not None and result.server_version[0].isdigit()


@pytest.mark.parametrize(
    ("database", "password", "expected"),
    [
        ("shop", "wrong", InvalidCredentials),
        ("closed", "ma%C3%AEtre%20d%27or", PermissionDenied),
        ("nothing", "ma%C3%AEtre%20d%27or", (DatabaseNotFound, PermissionDenied)),
    ],
)
def test_what_trying_again_does_not_mend(
    port: int, database: str, password: str, expected: type[DatabaseFailure]
) -> None:
    with pytest.raises(expected) as caught, open_database(parse_url(address(port, database, password)), SETTINGS):
        pass
    assert "wrong" not in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_nothing_can_be_written(port: int) -> None:
    with (
        pytest.raises((DatabaseError, PermissionDenied)),
        open_database(parse_url(f"mariadb://root@127.0.0.1:{port}/shop"), SETTINGS) as connection,
    ):
        connection.exec_driver_sql("INSERT INTO customers (email) VALUES ('c')")
