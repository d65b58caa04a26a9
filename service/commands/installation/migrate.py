"""`carillon migrate`."""

from __future__ import annotations

from pathlib import Path

import alembic.command
import click
from flask import current_app

import service
from service.commands.application import InstallationCommand, application
from service.operations.partitions import prepare_partitions

MIGRATIONS = Path(service.__file__).resolve().parent.parent / "migrations"


@click.command("migrate", cls=InstallationCommand)
def command() -> None:
    """Bring the database to the newest schema."""
    with application():
        config = current_app.extensions["migrate"].migrate.get_config(str(MIGRATIONS))
        alembic.command.upgrade(config, "head")
        prepare_partitions()
