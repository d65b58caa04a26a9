"""`carillon bootstrap`."""

from __future__ import annotations

import click

from service.accounts.bootstrap import Administrator, bootstrap_administrator
from service.commands.application import InstallationCommand, application
from service.operations.sample import create_sample_data
from service.settings import current_settings


@click.command("bootstrap", cls=InstallationCommand)
def command() -> None:
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
