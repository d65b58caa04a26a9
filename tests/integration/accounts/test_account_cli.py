"""The commands of an installation, as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pytest

REPOSITORY = Path(__file__).resolve().parents[3]

Run = Callable[..., subprocess.CompletedProcess[str]]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from service.cli import main; main(prog_name='carillon')", *arguments]


@pytest.fixture
def environment(servers: Any, tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    """An installation with an empty database of its own."""
    name = f"cli_{abs(hash(request.node.name))}"
    url = servers.postgres.create_database(name)
    request.addfinalizer(lambda: servers.postgres.drop_database(name))
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "CARILLON_VAR_DIR": str(tmp_path / "var"),
        "DATABASE_URL": url,
        "REDIS_URL": servers.redis.url,
    }


@pytest.fixture
def carillon(environment: dict[str, str], tmp_path: Path) -> Run:
    """Runs a command far from the sources."""

    def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            env=environment | changes,
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def failed(result: subprocess.CompletedProcess[str], code: int, words: str) -> None:
    assert result.returncode == code, result
    assert words in result.stderr
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_from_an_empty_database_to_the_first_administrator(carillon, environment):
    failed(carillon("bootstrap"), 1, "run carillon migrate")
    for _ in range(2):
        result = carillon("migrate")
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    connection = psycopg2.connect(environment["DATABASE_URL"])
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_class WHERE relname LIKE 'audit_log_p_%' AND relkind = 'r'")
        assert cursor.fetchone()[0] >= 3
    first = carillon("bootstrap")
    assert first.returncode == 0
    assert first.stdout.startswith("Administrator admin, password ")
    second = carillon("bootstrap", CARILLON_ADMIN_USERNAME="another")
    assert second.stdout == "There is an administrator: admin.\n"
    connection.close()


def test_migrations_at_once_make_the_keys_of_web_push_once(carillon, environment, tmp_path):
    carillon("migrate")
    connection = psycopg2.connect(environment["DATABASE_URL"])
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT value FROM platform_keys WHERE name = 'vapid'")
        first = cursor.fetchall()
        assert len(first) == 1
        cursor.execute("DELETE FROM platform_keys")
    processes = [subprocess.Popen(command("migrate"), env=environment, cwd=tmp_path) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT value FROM platform_keys WHERE name = 'vapid'")
        made = cursor.fetchall()
    assert len(made) == 1
    # Whatever it is encrypted with: nobody has to read it to migrate.
    assert carillon("migrate", ENCRYPTION_KEYS="bmV3LWtleS1uZXcta2V5LW5ldy1rZXktbmV3LWtleSE=").returncode == 0
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT value FROM platform_keys WHERE name = 'vapid'")
        assert cursor.fetchall() == made
    connection.close()


def test_two_bootstraps_at_once_make_one_administrator(carillon, environment, tmp_path):
    carillon("migrate")
    processes = [
        subprocess.Popen(command("bootstrap"), env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(output.split(",")[0].strip() for output in outputs) == [
        "Administrator admin",
        "There is an administrator: admin.",
        "There is an administrator: admin.",
    ]


def test_a_given_password_is_used_and_not_printed(carillon):
    carillon("migrate")
    result = carillon("bootstrap", CARILLON_ADMIN_PASSWORD="of my own choice")
    assert result.stdout == "Administrator admin, with the password of CARILLON_ADMIN_PASSWORD.\n"


def test_an_administrators_name_that_no_user_can_have(carillon):
    carillon("migrate")
    failed(carillon("bootstrap", CARILLON_ADMIN_USERNAME="a b"), 2, "CARILLON_ADMIN_USERNAME")


def test_organizations_and_users(carillon):
    carillon("migrate")
    made = carillon("create-organization", "Acme", "--admin", "ann", "--email", "Ann@Acme.example")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("Organization Acme, administrator ann, password ")
    again = ("create-organization", "Acme", "--admin", "bob", "--email", "bob@acme.example")
    failed(carillon(*again), 1, "There is an organization of this name already.")
    taken = ("create-organization", "Other", "--admin", "ANN", "--email", "bob@acme.example")
    failed(carillon(*taken), 1, "This user name is taken.")
    user = ("create-user", "bob", "--email", "bob@acme.example", "--organization")
    failed(carillon(*user, "Other"), 1, "There is no organization of this name.")
    made = carillon(*user, "Acme", "--role", "operator", "--role", "user")
    assert made.stdout.startswith("User bob, password ")
    failed(carillon("create-user", "x", "--email", "nobody"), 1, "email: Not a valid e-mail address.")


def test_settings_are_listed_without_secrets(carillon, tmp_path):
    (tmp_path / ".env").write_text("SMTP_URL=smtp://user:hidden-word@mail\nPUBLIC_URL=https://jobs.example.com/\n")
    result = carillon("settings", SECRET_KEY="hidden-word-that-is-long-enough-to-be-used")
    assert result.returncode == 0
    assert "hidden-word" not in result.stdout
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert lines["PUBLIC_URL"].split()[1] == "https://jobs.example.com"
    assert lines["SECRET_KEY"].split()[1] == "********"
    assert lines["CARILLON_ADMIN_PASSWORD"].split()[1] == "-"
    assert lines["PORT"].endswith("port of the web process")


@pytest.mark.parametrize("name", ["settings", "migrate", "bootstrap"])
def test_a_bad_setting_is_named(carillon, name):
    failed(carillon(name, PORT="many"), 2, "PORT")


@pytest.mark.parametrize("arguments", [("migrate",), ("bootstrap",), ("create-user", "ann", "--email", "a@b.example")])
def test_a_database_that_is_away_is_one_sentence(carillon, arguments):
    result = carillon(*arguments, DATABASE_URL="postgresql://user:hidden-word@127.0.0.1:1/nothing")
    failed(result, 1, "The database cannot be used: ")
    assert "hidden-word" not in result.stderr


def test_help_lists_the_commands(carillon):
    result = carillon("--help")
    assert result.returncode == 0
    for name in ("migrate", "bootstrap", "settings", "create-organization", "create-user"):
        assert name in result.stdout
