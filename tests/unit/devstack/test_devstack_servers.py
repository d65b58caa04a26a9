"""A real PostgreSQL and a real Redis: started, restarted, killed, found again, and gone at the end."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from devstack.errors import StackError
from devstack.guard import is_alive
from devstack.ports import free_port
from devstack.postgres import PostgresServer
from devstack.redis_server import RedisServer
from devstack.servers import Server

ONCE = Retry(NoBackoff(), 0)


def query(url: str, statement: str) -> object:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None
    finally:
        connection.close()


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path / "postgres", durable=False) as server:
        yield server


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


def ids_of(server: Server) -> list[int]:
    assert server.process
    return [server.pid, *(child.pid for child in server.process.descendants())]


def assert_gone(pids: list[int]) -> None:
    assert [pid for pid in pids if is_alive(pid)] == []


def test_postgres_keeps_address_and_data_over_restart_and_kill(postgres: PostgresServer) -> None:
    url = postgres.url
    query(url, "CREATE TABLE bells (name text)")
    for fault in (postgres.restart, postgres.kill):
        pids = ids_of(postgres)
        fault()
        assert_gone(pids)
        postgres.start()
        assert postgres.url == url
        assert query(url, "SELECT count(*) FROM bells") == 0
    pids = ids_of(postgres)
    postgres.stop()
    assert_gone(pids)


def test_postgres_is_set_up_as_the_platform_expects(postgres: PostgresServer) -> None:
    for name, value in {
        "TimeZone": "UTC",
        "server_encoding": "UTF8",
        "max_connections": "200",
        "listen_addresses": "127.0.0.1",
        "fsync": "off",
    }.items():
        assert query(postgres.url, f"SHOW {name}") == value


def test_postgres_serves_several_databases(postgres: PostgresServer) -> None:
    query(postgres.url, "CREATE TABLE bells (name text)")
    copy = postgres.create_database("copy", template="carillon")
    assert query(copy, "SELECT count(*) FROM bells") == 0
    postgres.drop_database("copy")
    with pytest.raises(psycopg2.OperationalError, match="does not exist"):
        query(copy, "SELECT 1")


def test_servers_refuse_whoever_has_no_password(postgres: PostgresServer, redis_server: RedisServer) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(host="127.0.0.1", port=postgres.port, user="carillon", password="guess")
    with pytest.raises(redis.AuthenticationError), redis.Redis(port=redis_server.port, retry=ONCE) as client:
        client.ping()
    for server in (postgres, redis_server):
        assert stat.S_IMODE((server.folder / "password").stat().st_mode) == 0o600


def test_a_postgres_left_by_a_crashed_run_is_replaced(postgres: PostgresServer) -> None:
    query(postgres.url, "CREATE TABLE bells (name text)")
    left = ids_of(postgres)
    with PostgresServer(postgres.folder, durable=False) as successor:
        assert_gone(left[1:])
        assert not postgres.running
        assert query(successor.url, "SELECT count(*) FROM bells") == 0


def test_a_lock_file_with_a_number_that_another_process_has_now(postgres: PostgresServer) -> None:
    postgres.stop()
    lock = postgres.folder / "data" / "postmaster.pid"
    lock.write_text(f"{os.getpid()}\n{postgres.folder / 'data'}\n1\n5432\n\n\n")
    postgres.start()
    assert query(postgres.url, "SELECT 1") == 1


def test_an_initialisation_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "data.new").mkdir()
    (tmp_path / "data.new" / "PG_VERSION").write_text("18\n")
    with PostgresServer(tmp_path, durable=False) as server:
        assert query(server.url, "SELECT 1") == 1


def test_data_of_another_postgres_is_not_touched(postgres: PostgresServer) -> None:
    postgres.stop()
    (postgres.folder / "data" / "PG_VERSION").write_text("12\n")
    with pytest.raises(StackError, match=r"is of PostgreSQL 12, and the one installed is \d+"):
        postgres.start()


def test_redis_keeps_its_data_when_told_so(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.set("bell", "great")
        pids = ids_of(redis_server)
        redis_server.restart()
        assert_gone(pids)
        assert client.get("bell") == b"great"
    pids = ids_of(redis_server)
    redis_server.kill()
    assert_gone(pids)


def test_redis_without_persistence_restarts_empty(tmp_path: Path) -> None:
    with RedisServer(tmp_path, persistent=False) as server, redis.Redis.from_url(server.url) as client:
        client.set("bell", "great")
        server.restart()
        assert client.get("bell") is None


def test_a_redis_left_by_a_crashed_run_is_replaced(redis_server: RedisServer) -> None:
    with RedisServer(redis_server.folder) as successor:
        assert not redis_server.running
        assert successor.running


def test_a_frozen_redis_hangs_until_it_thaws(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url, socket_timeout=0.2, retry=ONCE) as client:
        client.ping()
        redis_server.freeze()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        redis_server.thaw()
        assert client.ping()


@pytest.mark.parametrize("kind", [PostgresServer, RedisServer])
def test_a_chosen_port_that_is_taken_is_an_error_that_says_so(
    kind: type[PostgresServer | RedisServer], tmp_path: Path, redis_server: RedisServer
) -> None:
    with pytest.raises(StackError, match="ddress already in use"):
        kind(tmp_path / "second", port=redis_server.port).start()


def test_a_chosen_port_is_used(tmp_path: Path) -> None:
    port = free_port()
    with RedisServer(tmp_path, port=port, persistent=False) as server:
        assert f":{port}/" in server.url
