"""`carillon migrate`."""

from __future__ import annotations

from pathlib import Path

import alembic.command
import click
from flask import current_app

import service
from service.commands.application import InstallationCommand, application
from service.operations.partitions import prepare_partitions
from service.push.keys import make_vapid_key

MIGRATIONS = Path(service.__file__).resolve().parent.parent / "migrations"


@click.command("migrate", cls=InstallationCommand)
def command() -> None:
    """Bring the database to the newest schema, and make the keys of web push if there are none."""
    with application():
        config = current_app.extensions["migrate"].migrate.get_config(str(MIGRATIONS))
        alembic.command.upgrade(config, "head")
        prepare_partitions()
        make_vapid_key()
