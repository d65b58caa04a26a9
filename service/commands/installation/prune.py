"""`carillon prune`."""

from __future__ import annotations

import click

from service.commands.application import InstallationCommand, application
from service.operations.retention import prune


@click.command("prune", cls=InstallationCommand)
def command() -> None:
    """Delete what is older than it is to be kept, and count it; the platform does so by itself every hour."""
    with application():
        for name, count in prune().items():
            click.echo(f"{name.replace('_', ' ')}: {count} deleted")
