"""`carillon create-organization`."""

from __future__ import annotations

import click

from service.accounts.actions import create_organization, create_user
from service.accounts.roles import ADMIN, OPERATOR, USER
from service.commands.application import InstallationCommand, application
from service.commands.people import introduction, person
from service.database import transaction


@click.command("create-organization", cls=InstallationCommand)
@click.argument("name")
@click.option("--admin", "username", required=True, help="User name of its first administrator.")
@click.option("--email", required=True, help="E-mail address of its first administrator.")
def command(name: str, username: str, email: str) -> None:
    """Make an organization with its first administrator."""
    administrator = person(username, email)
    with application(), transaction():
        organization_id = create_organization(name).id
        create_user(**administrator, organization_id=organization_id, roles=(ADMIN, OPERATOR, USER))
    click.echo(f"Organization {name}, administrator {introduction(administrator)}")
