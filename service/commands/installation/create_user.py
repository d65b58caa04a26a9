"""`carillon create-user`."""

from __future__ import annotations

import click

from service.accounts.actions import create_user
from service.accounts.models import DEFAULT_ORGANIZATION
from service.accounts.queries import organization_named
from service.accounts.roles import ROLES, USER
from service.commands.application import InstallationCommand, application
from service.commands.people import introduction, person
from service.database import transaction


@click.command("create-user", cls=InstallationCommand)
@click.argument("username")
@click.option("--email", required=True, help="E-mail address.")
@click.option("--organization", default=DEFAULT_ORGANIZATION, show_default=True, help="Name of the organization.")
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), default=(USER,), show_default=True)
def command(username: str, email: str, organization: str, roles: tuple[str, ...]) -> None:
    """Make a user."""
    user = person(username, email)
    with application(), transaction():
        create_user(**user, organization_id=organization_named(organization).id, roles=roles)
    click.echo(f"User {introduction(user)}")
