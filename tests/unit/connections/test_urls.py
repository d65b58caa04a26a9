"""Which URLs are taken, and what nobody can smuggle in by one."""

from __future__ import annotations

import pytest

from service.connections.urls import MARIADB, MYSQL, POSTGRESQL, SQLITE, InvalidUrl, parse_url


@pytest.mark.parametrize(
    ("text", "engine", "host", "port", "database", "username", "password"),
    [
        ("postgresql://a:b@db.example.com/shop", POSTGRESQL, "db.example.com", 5432, "shop", "a", "b"),
        ("postgres://a:b@db:6000/shop", POSTGRESQL, "db", 6000, "shop", "a", "b"),
        ("postgresql://a:p%40s%2Fs@[::1]:5/shop", POSTGRESQL, "::1", 5, "shop", "a", "p@s/s"),
        ("mysql://a@10.0.0.1/", MYSQL, "10.0.0.1", 3306, None, "a", None),
        ("mariadb://a:b@db/shop", MARIADB, "db", 3306, "shop", "a", "b"),
        ("sqlite:////data/my%20file.db", SQLITE, None, None, "/data/my file.db", None, None),
    ],
)
def test_the_parts_of_a_url(
    text: str,
    engine: str,
    host: str | None,
    port: int | None,
    database: str | None,
    username: str | None,
    password: str | None,
) -> None:
    endpoint = parse_url(text)
    assert (endpoint.engine, endpoint.host, endpoint.port) == (engine, host, port)
    assert (endpoint.database, endpoint.username, endpoint.password) == (database, username, password)


def test_known_options_are_kept() -> None:
    assert parse_url("postgresql://a@db/x?sslmode=require&application_name=me").options == {
        "sslmode": "require",
        "application_name": "me",
    }
    assert parse_url("mysql://a@db/x?ssl-mode=VERIFY_IDENTITY").options == {"ssl-mode": "VERIFY_IDENTITY"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "oracle://a:b@db/x",
        "postgresql+asyncpg://a:b@db/x",
        "http://db/x",
        "postgresql://db/x",
        "postgresql://a:b@/x",
        "postgresql://a:b@db",
        "postgresql:///x?host=/var/run/postgresql",
        "postgresql://a:b@%2Fvar%2Frun/x",
        "postgresql://a:b@one,two/x",
        "postgresql://a:b@fe80::1%25eth0/x",
        "postgresql://a:b@db:0/x",
        "postgresql://a:b@db:99999/x",
        "postgresql://a:b@db:port/x",
        "postgresql://a:p@ss@db/x",
        "postgresql://a:b@db/x?options=-c%20log_statement=all",
        "postgresql://a:b@db/x?service=mine",
        "postgresql://a:b@db/x?passfile=/etc/passwd",
        "postgresql://a:b@db/x?hostaddr=127.0.0.1",
        "postgresql://a:b@db/x?sslrootcert=/etc/passwd",
        "postgresql://a:b@db/x?sslcert=/etc/passwd",
        "postgresql://a:b@db/x?sslmode=whatever",
        "postgresql://a:b@db/x?sslmode=require&sslmode=disable",
        "postgresql://a:b@db/x%00y",
        "postgresql://a:b @db/x",
        "mysql://a:b@db/x?unix_socket=/var/run/mysqld.sock",
        "mysql://a:b@db/x?read_default_file=/etc/my.cnf",
        "mysql://a:b@db/x?init_command=DROP%20TABLE%20x",
        "mysql://a:b@db/x?local_infile=1",
        "mysql://a:b@db/x?ssl_ca=/etc/passwd",
        "sqlite://",
        "sqlite:///relative.db",
        "sqlite:///:memory:",
        "sqlite://host/data.db",
        "sqlite:////data.db?mode=rwc",
        "postgresql://a:b@db/" + "x" * 3000,
    ],
)
def test_a_url_that_is_refused(text: str) -> None:
    with pytest.raises(InvalidUrl) as caught:
        parse_url(text)
    assert len(text) < 12 or text not in str(caught.value)


def test_the_password_does_not_show_in_the_representation() -> None:
    assert "hunter2" not in repr(parse_url("postgresql://a:hunter2@db/x"))
