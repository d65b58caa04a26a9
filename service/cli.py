"""`carillon`: its commands are the modules of `service.commands`."""

from __future__ import annotations

import click

from service.commands.group import Commands


@click.group(cls=Commands)
def main() -> None:
    """Long-running jobs over REST, watched live, told about everywhere, never lost."""
