"""Real servers for the tests: each test process has a PostgreSQL and a Redis of its own.

The application's code commits as it does in life, so tests are kept apart by their tenants: every `make_user()` is of
an organization of its own unless it is told otherwise.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient

from devstack.postgres import PostgresServer
from devstack.redis_server import RedisServer
from tests.acceptance.waiting import until as wait_until

PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Servers:
    """Where the servers of this test process are."""

    postgres: PostgresServer
    redis: RedisServer


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """PostgreSQL and Redis, started when the first test wants them."""
    # Not below pytest's own folder: a second run beside this one takes away what the server's account may read there.
    with TemporaryDirectory(prefix="carillon-tests-") as name:
        folder = Path(name)
        with (
            PostgresServer(folder / "postgres", durable=False) as postgres,
            RedisServer(folder / "redis", persistent=False) as redis,
        ):
            yield Servers(postgres, redis)


@pytest.fixture(scope="session")
def app(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Flask:
    """The application on a migrated database, with routes and sockets, served by nobody."""
    # Read too early, Celery's settings would be those of no server at all, and every message would wait for it.
    assert "celeryconfig" not in sys.modules, "something was imported outside a test that asks for Celery's settings"
    var: Path = tmp_path_factory.mktemp("var")
    os.environ |= {
        "CARILLON_ENV": "test",
        "CARILLON_VAR_DIR": str(var),
        "DATABASE_URL": servers.postgres.url,
        "REDIS_URL": servers.redis.url,
        "SOCKETIO_ASYNC_MODE": "threading",
        "LOG_LEVEL": "warning",
        "WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8",
    }
    from flask_migrate import upgrade

    from service import create_app
    from service.operations.partitions import prepare_partitions
    from service.settings import Settings
    from tasks import load_job_types

    load_job_types()
    application = create_app(Settings.from_env())
    application.testing = False
    with application.app_context():
        upgrade()
        prepare_partitions()
    return application


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client without credentials."""
    return app.test_client()


@dataclass(frozen=True)
class Account:
    """A user as a test sees one."""

    id: UUID
    organization_id: UUID
    username: str
    password: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """What authenticates this user's requests."""
        return {"Authorization": f"Bearer {self.token}"}


class MakeUser(Protocol):
    """Makes a user; of a new organization where none is given."""

    def __call__(self, roles: tuple[str, ...] = ("user",), organization: UUID | None = None) -> Account: ...


@pytest.fixture
def make_user(app: Flask) -> MakeUser:
    """A maker of users."""
    from service.accounts.models import Organization, User
    from service.accounts.passwords import hash_password
    from service.accounts.tokens import issue_access_token
    from service.database import transaction
    from service.ids import new_id
    from service.notifications.preferences import write_default_preferences

    def make(roles: tuple[str, ...] = ("user",), organization: UUID | None = None) -> Account:
        name = f"u{new_id().hex[-20:]}"
        with app.app_context(), transaction() as session:
            if organization is None:
                tenant = Organization(name=f"org-{name}")
                session.add(tenant)
                session.flush()
                organization = tenant.id
            user = User(
                organization_id=organization,
                username=name,
                email=f"{name}@example.com",
                password_hash=hash_password(PASSWORD),
                roles=list(roles),
            )
            session.add(user)
            session.flush()
            write_default_preferences(user)
            token, _ = issue_access_token(user)
            return Account(user.id, organization, name, PASSWORD, token)

    return make


@pytest.fixture
def in_app(app: Flask) -> Iterator[None]:
    """Runs the test inside an application context."""
    with app.app_context():
        yield


@pytest.fixture
def until() -> Callable[..., Any]:
    """Waits until a condition holds: `until(lambda: …, "what")` gives its value, or fails after the time."""
    return wait_until
