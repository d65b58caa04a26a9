"""`carillon`: the commands of an installation."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import alembic.command
import click
import marshmallow as ma
from dotenv import find_dotenv, load_dotenv
from flask import current_app
from psycopg2.errors import UndefinedTable
from sqlalchemy.exc import OperationalError, ProgrammingError

import service
from service import create_app
from service.accounts.actions import create_organization, create_user
from service.accounts.bootstrap import Administrator, bootstrap_administrator
from service.accounts.models import DEFAULT_ORGANIZATION
from service.accounts.passwords import make_up_password
from service.accounts.queries import organization_named
from service.accounts.roles import ADMIN, OPERATOR, ROLES, USER
from service.accounts.schemas import RegistrationSchema
from service.database import transaction
from service.errors import CarillonError, flatten_messages
from service.operations.key_rotation import rotate_keys
from service.operations.partitions import prepare_partitions
from service.operations.retention import prune as delete_old
from service.operations.sample import create_sample_data
from service.settings import Settings, SettingsError, current_settings

MIGRATIONS = Path(service.__file__).resolve().parent.parent / "migrations"


class Refused(click.ClickException):
    """Says why in one sentence; exit code 1."""


class BadSettings(click.ClickException):
    """Says which setting is wrong; exit code 2."""

    exit_code = 2


class Commands(click.Group):
    """Commands whose failures are a sentence on stderr."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what can be expected to go wrong becomes a sentence."""
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise BadSettings(str(error)) from None
        except OperationalError as error:
            raise Refused(f"The database cannot be used: {str(error.orig).strip().splitlines()[0]}") from None
        except ProgrammingError as error:
            if isinstance(error.orig, UndefinedTable):
                raise Refused("The database has no tables yet: run carillon migrate.") from None
            raise
        except ma.ValidationError as error:
            messages = flatten_messages(error.messages)
            raise Refused("; ".join(f"{name}: {' '.join(texts)}" for name, texts in messages.items())) from None
        except CarillonError as error:
            raise Refused(error.message) from None


@contextmanager
def application() -> Iterator[None]:
    """The application without routes, and without the log lines that only a server's log needs."""
    app = create_app(Settings.from_env(), serves=False)
    for name in ("alembic", "celery"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with app.app_context():
        yield


@click.group(cls=Commands)
def main() -> None:
    """Long-running jobs over REST, watched live, told about everywhere, never lost."""
    load_dotenv(find_dotenv(usecwd=True))


@main.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    with application():
        config = current_app.extensions["migrate"].migrate.get_config(str(MIGRATIONS))
        alembic.command.upgrade(config, "head")
        prepare_partitions()


@main.command()
def bootstrap() -> None:
    """Make the first administrator, if there is none, and in development sample data to look at."""
    with application():
        administrator = bootstrap_administrator()
        # At once: a password that is told once must not be lost if what follows fails.
        click.echo(_welcome(administrator))
        if administrator.is_new and current_settings().environment == "development":
            create_sample_data(administrator.username)


def _welcome(administrator: Administrator) -> str:
    if not administrator.is_new:
        return f"There is an administrator: {administrator.username}."
    if administrator.password is None:
        return f"Administrator {administrator.username}, with the password of CARILLON_ADMIN_PASSWORD."
    return f"Administrator {administrator.username}, password {administrator.password} (shown only now)."


@main.command("create-organization")
@click.argument("name")
@click.option("--admin", "username", required=True, help="User name of its first administrator.")
@click.option("--email", required=True, help="E-mail address of its first administrator.")
def create_organization_command(name: str, username: str, email: str) -> None:
    """Make an organization with its first administrator."""
    person = _person(username, email)
    with application(), transaction():
        organization_id = create_organization(name).id
        create_user(**person, organization_id=organization_id, roles=(ADMIN, OPERATOR, USER))
    click.echo(f"Organization {name}, administrator {_introduction(person)}")


@main.command("create-user")
@click.argument("username")
@click.option("--email", required=True, help="E-mail address.")
@click.option("--organization", default=DEFAULT_ORGANIZATION, show_default=True, help="Name of the organization.")
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), default=(USER,), show_default=True)
def create_user_command(username: str, email: str, organization: str, roles: tuple[str, ...]) -> None:
    """Make a user."""
    person = _person(username, email)
    with application(), transaction():
        create_user(**person, organization_id=organization_named(organization).id, roles=roles)
    click.echo(f"User {_introduction(person)}")


def _person(username: str, email: str) -> dict[str, str]:
    """Name, address and a password made up, by the rules of registration; raises ma.ValidationError."""
    given = {"username": username, "email": email, "password": make_up_password()}
    return dict(RegistrationSchema().load(given))


def _introduction(person: dict[str, str]) -> str:
    return f"{person['username']}, password {person['password']} (shown only now)."


@main.command("rotate-keys")
def rotate_keys_command() -> None:
    """Encrypt anew, with the first of ENCRYPTION_KEYS, what older keys have encrypted; they can be retired then."""
    with application():
        for each in rotate_keys():
            lost = f", {each.unreadable} that no key fits" if each.unreadable else ""
            click.echo(f"{each.place}: {each.rotated} encrypted anew{lost}")


@main.command()
def prune() -> None:
    """Delete what is older than it is to be kept, and count it; the platform does so by itself every hour."""
    with application():
        for name, count in delete_old().items():
            click.echo(f"{name.replace('_', ' ')}: {count} deleted")


@main.command()
def settings() -> None:
    """List every setting with its value and meaning; secrets are not shown."""
    present = Settings.from_env()
    rows = [
        (item.metadata["name"], _shown(getattr(present, item.name), item.metadata["secret"]), item.metadata["meaning"])
        for item in fields(present)
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, meaning in rows:
        click.echo(f"{name:{widths[0]}}  {value:{widths[1]}}  {meaning}")


def _shown(value: Any, is_secret: bool) -> str:
    if value is None or value in ("", ()):
        return "-"
    if is_secret:
        return "********"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return (":" if isinstance(value[0], Path) else ",").join(str(part) for part in value)
    return str(value)
