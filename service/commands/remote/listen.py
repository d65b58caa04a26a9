"""`carillon listen`."""

from __future__ import annotations

import ipaddress
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import click

from service.client import Carillon, ClientError, Invalid, NotFound
from service.client.errors import Document
from service.client.webhooks import secret_key
from service.commands.arrivals import Arrivals
from service.commands.listening import HOST, Listener
from service.commands.refusals import Refused
from service.commands.server import RemoteCommand, connect, sentence

# By this the next listener knows what one that was killed has left behind, and deletes it.
DESCRIPTION = "carillon listen"
# A closed window is SIGHUP, which other systems do not have.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@click.command("listen", cls=RemoteCommand)
@click.option(
    "--event", default="all", show_default=True, help="What to be told of: all, completed, failed, progress, …"
)
@click.option(
    "--format",
    "payload_format",
    type=click.Choice(["standard", "flat"]),
    default="standard",
    show_default=True,
    help="Of the bodies.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help=f"Port of {HOST} to listen at; any free one if not given."
)
@click.option(
    "--url", help="Under which the platform reaches this port, if it is on another machine: a tunnel's address."
)
@click.option(
    "--forward", metavar="URL", help="Your application's: what is verified is posted on to it, and its answer given."
)
@click.option(
    "--secret",
    envvar="CARILLON_WEBHOOK_SECRET",
    show_envvar=True,
    help="Only verify, with this secret: no endpoint is made and no login needed.",
)
@click.option("--json", "in_json", is_flag=True, help="Print a JSON object a line.")
def command(
    *,
    event: str,
    payload_format: str,
    port: int,
    url: str | None,
    forward: str | None,
    secret: str | None,
    in_json: bool,
) -> None:
    """Receive webhooks on this machine and show them, verified, until Ctrl-C.

    An endpoint of yours is made for this, and deleted at the end.
    """
    _check(forward, secret)
    with ExitStack() as stack:
        listener = stack.enter_context(_listener(port, forward))
        caught = stack.enter_context(_signals_end(listener))
        if secret is None:
            client = stack.enter_context(connect())
            fields = {"event_type": event, "payload_format": payload_format}
            endpoint = stack.enter_context(_endpoint(client, url or _url_for(client, listener), fields))
            secret = str(endpoint["secret"])
            _introduce(listener, f"to {client.url}, event type {event}", forward, secret)
        else:
            _introduce(listener, "to whoever posts", forward)
        listener.serve(secret)
        arrivals = Arrivals(in_json=in_json)
        for arrival in iter(listener.arrivals.get, None):
            arrivals.show(arrival)
    raise click.exceptions.Exit(128 + caught[0])


def _check(forward: str | None, secret: str | None) -> None:
    if forward is not None and not _is_address(forward):
        raise Refused(f"This is not the address of an application: {forward}.")
    if secret is not None:
        try:
            secret_key(secret)
        except ValueError as error:
            raise Refused(f"{error}.") from None


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _listener(port: int, forward: str | None) -> Listener:
    try:
        return Listener(port, forward)
    except OSError as error:
        raise Refused(f"Port {port} of {HOST} cannot be used: {error.strerror}.") from None


@contextmanager
def _signals_end(listener: Listener) -> Iterator[list[int]]:
    """Let Ctrl-C and its like end the listening and not the program: the endpoint is to be deleted; which it was."""
    caught: list[int] = []

    def end(number: int, _: object) -> None:
        if caught:
            # Who presses it again does not want to wait for the server.
            raise KeyboardInterrupt
        caught.append(number)
        listener.arrivals.put(None)

    before = {number: signal.signal(number, end) for number in SIGNALS}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _url_for(client: Carillon, listener: Listener) -> str:
    host = urlsplit(client.url).hostname or ""
    if not _is_this_machine(host):
        raise Refused(
            f"{client.url} cannot reach {HOST} of this machine: give --port, and with --url the address under which it "
            "reaches that port, for example a tunnel's."
        )
    return listener.url


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _endpoint(client: Carillon, url: str, fields: dict[str, str]) -> Iterator[Document]:
    """An endpoint for as long as it is listened to."""
    endpoint = _make(client, url, fields)
    try:
        yield endpoint
    finally:
        try:
            client.delete_webhook(endpoint["id"])
        except NotFound:
            pass
        except ClientError as error:
            raise Refused(f"The endpoint {endpoint['id']} is still there: {sentence(error)}") from None


def _make(client: Carillon, url: str, fields: dict[str, str]) -> Document:
    for webhook in client.webhooks():
        if webhook["description"] == DESCRIPTION and (webhook["url"] == url or _is_left(webhook["url"])):
            client.delete_webhook(webhook["id"])
    try:
        return client.create_webhook(url, description=DESCRIPTION, **fields)
    except Invalid as error:
        if "url" not in error.errors:
            raise
        raise Refused(
            f"The platform does not post to {url}: {' '.join(error.errors['url']).rstrip('.')}. Addresses inside its "
            "network have to be named in its setting WEBHOOK_ALLOW_NETWORKS, this machine with 127.0.0.0/8, as `make "
            "run` does by itself; or give with --url an address that it may reach."
        ) from None


def _is_left(url: str) -> bool:
    """Whether the listener of an endpoint is gone: it was on this machine, and was killed."""
    address = urlsplit(url)
    if address.hostname != HOST or address.port is None:
        return False
    try:
        socket.create_connection((HOST, address.port), timeout=1).close()
    except OSError:
        return True
    return False


def _introduce(listener: Listener, to: str, forward: str | None, secret: str | None = None) -> None:
    """Say on stderr what happens: stdout is for what arrives."""
    click.echo(f"Listening {to}, at {listener.url}; Ctrl-C ends it.", err=True)
    if secret is not None:
        click.echo(f"Secret of this endpoint: {secret}", err=True)
    if forward is not None:
        click.echo(f"What is verified goes on to {forward}.", err=True)
