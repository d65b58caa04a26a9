"""`carillon login`."""

from __future__ import annotations

import sys

import click

from service.client import log_in
from service.commands.refusals import Refused
from service.commands.server import DEFAULT_URL, RemoteCommand, given_url
from service.commands.session import current_url, keep


@click.command("login", cls=RemoteCommand)
@click.option("--url", help=f"The server; CARILLON_URL, the last one or {DEFAULT_URL} if not given.")
@click.option("--username", prompt="User name", help="User name or e-mail address.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def command(url: str | None, username: str, password_stdin: bool) -> None:
    """Log in at a server, for the commands that follow."""
    server = (url or given_url() or current_url() or DEFAULT_URL).rstrip("/")
    # Never an option: the command line of a process is there for everybody to read.
    password = sys.stdin.readline().rstrip("\n") if password_stdin else click.prompt("Password", hide_input=True)
    try:
        tokens = log_in(server, username, password)
    except ValueError as error:
        raise Refused(f"{error}.") from None
    keep(server, tokens)
    click.echo(f"Logged in at {server} as {username}.")
