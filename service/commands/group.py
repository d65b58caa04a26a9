"""Finds the commands: a module of `remote` or `installation` is a command, imported when it is called."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import cast

import click

# So that `carillon jobs` does not wait for Flask.
SECTIONS = {"remote": "Jobs, over HTTP", "installation": "This installation"}


class Commands(click.Group):
    """A group whose commands are the modules beside this one; `command` in each is the command."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All names."""
        return sorted(name for section in SECTIONS for name in _names(section))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of a name."""
        for section in SECTIONS:
            if cmd_name in _names(section):
                module = importlib.import_module(f"{__package__}.{section}.{cmd_name.replace('-', '_')}")
                return cast(click.Command, module.command)
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List them by section."""
        width = max(len(name) for name in self.list_commands(ctx))
        for section, title in SECTIONS.items():
            commands = [self.get_command(ctx, name) for name in _names(section)]
            limit = formatter.width - 6 - width
            rows = [(each.name or "", each.get_short_help_str(limit)) for each in commands if each]
            with formatter.section(title):
                formatter.write_dl(rows)


def _names(section: str) -> list[str]:
    folder = Path(__file__).with_name(section)
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules([str(folder)]))
