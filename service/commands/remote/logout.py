"""`carillon logout`."""

from __future__ import annotations

import click

from service.client import log_out
from service.commands.refusals import Refused
from service.commands.server import RemoteCommand, given_url
from service.commands.session import current_url, keep, kept_tokens


@click.command("logout", cls=RemoteCommand)
@click.option("--url", help="The server; CARILLON_URL or the one of the last login if not given.")
def command(url: str | None) -> None:
    """End the session at a server and forget it."""
    server = (url or given_url() or current_url() or "").rstrip("/")
    tokens = kept_tokens(server)
    if tokens is None:
        raise Refused(f"You are not logged in{f' at {server}' if server else ''}.")
    # Forgotten also if the server is away.
    keep(server, None)
    log_out(server, tokens)
    click.echo(f"Logged out at {server}.")
