"""Why a command does not do what it was asked, in one sentence on stderr."""

from __future__ import annotations

import click


class Refused(click.ClickException):
    """Says why in one sentence; exit code 1."""


class BadSettings(click.ClickException):
    """Says which setting is wrong; exit code 2."""

    exit_code = 2
