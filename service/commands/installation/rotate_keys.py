"""`carillon rotate-keys`."""

from __future__ import annotations

import click

from service.commands.application import InstallationCommand, application
from service.operations.key_rotation import rotate_keys


@click.command("rotate-keys", cls=InstallationCommand)
def command() -> None:
    """Encrypt anew, with the first of ENCRYPTION_KEYS, what older keys have encrypted; they can be retired then."""
    with application():
        for each in rotate_keys():
            lost = f", {each.unreadable} that no key fits" if each.unreadable else ""
            click.echo(f"{each.place}: {each.rotated} encrypted anew{lost}")
