"""`carillon settings`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from service.commands.application import InstallationCommand
from service.settings import Settings


@click.command("settings", cls=InstallationCommand)
def command() -> None:
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
