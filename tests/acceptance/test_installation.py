"""The package as `pip install` leaves it: without its sources, as the README deploys it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import pytest
import requests
from cryptography.fernet import Fernet

from devstack.ports import free_port
from tests.acceptance.plugins import install
from tests.acceptance.waiting import until

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = ("service", "tasks", "migrations", "celeryconfig.py", "wsgi.py", "setup.cfg", "pyproject.toml", "README.md")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing in it but what the package brings along."""
    sources = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / name, sources)
    folder = tmp_path_factory.mktemp("installed")
    install(sources, folder)
    return folder


@pytest.fixture(scope="module")
def environment(servers: Any, installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The settings of a production with an empty database."""
    name = "installation"
    yield {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(installed),
        "CARILLON_ENV": "production",
        "CARILLON_VAR_DIR": str(tmp_path_factory.mktemp("var")),
        "SECRET_KEY": token_urlsafe(48),
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "DATABASE_URL": servers.postgres.create_database(name),
        "REDIS_URL": servers.redis.url,
        "HOST": "127.0.0.1",
        "PORT": str(free_port()),
    }
    servers.postgres.drop_database(name)


def run(environment: dict[str, str], folder: Path, *command: str) -> str:
    outcome = subprocess.run(
        (sys.executable, *command), env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


def test_it_is_set_up_and_serves(environment: dict[str, str], installed: Path, tmp_path: Path) -> None:
    where = run(environment, tmp_path, "-c", "import service; print(service.__file__)")
    assert Path(where.strip()).is_relative_to(installed)
    for command in ("migrate", "bootstrap"):
        said = run(environment, tmp_path, str(installed / "bin" / "carillon"), command)
    assert said.startswith("Administrator admin, password ")
    command = (sys.executable, "-m", "wsgi")
    with (
        (tmp_path / "web.log").open("wb") as log,
        subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log) as web,
    ):
        try:
            url = f"http://127.0.0.1:{environment['PORT']}"
            until(lambda: answers(f"{url}/api/health"), (tmp_path / "web.log").read_text, 30)
            password = said.split(" password ")[1].split()[0]
            answer = requests.post(
                f"{url}/api/auth/login", json={"username": "admin", "password": password}, timeout=10
            )
            assert answer.status_code == 200, answer.text
        finally:
            web.terminate()


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code < 600
    except requests.ConnectionError:
        return False
