"""What the commands over HTTP share: the server and who asks it, and sentences for what goes wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import click

from service.client import Carillon, ClientError, NotAuthenticated, RequestFailed
from service.client.errors import Document
from service.commands.display import clean
from service.commands.refusals import Refused
from service.commands.session import KeptSession, current_url, kept_tokens

DEFAULT_URL = "http://127.0.0.1:5000"
INTERRUPTED = 130
# Somebody looks on: what does not answer soon is told. Who watches has time.
IMPATIENT_SECONDS = 5.0
PATIENT_SECONDS = 120.0


class RemoteCommand(click.Command):
    """A command that asks a server; its failures are a sentence on stderr."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what can be expected to go wrong becomes a sentence."""
        try:
            return super().invoke(ctx)
        except ClientError as error:
            raise Refused(sentence(error)) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None


def given_url() -> str | None:
    """The server that the environment names."""
    return os.environ.get("CARILLON_URL", "").rstrip("/") or None


def connect(patience: float = IMPATIENT_SECONDS) -> Carillon:
    """The server of CARILLON_URL or of the newest login, by CARILLON_TOKEN or the session there; raises Refused."""
    url = given_url() or current_url()
    token = os.environ.get("CARILLON_TOKEN")
    tokens = kept_tokens(url) if url else None
    try:
        if token:
            return Carillon(url or DEFAULT_URL, token=token, patience=patience)
        if url and tokens:
            return Carillon(url, credentials=KeptSession(url, tokens), patience=patience)
    except ValueError as error:
        raise Refused(f"{error}.") from None
    raise Refused(f"You are not logged in: run carillon login{f' --url {url}' if url else ''}.")


def connect_patiently(job_id: str) -> Carillon:
    """The same for who watches a job: a server that goes away later is waited for, one that is away now is told."""
    with connect() as client, suppress(RequestFailed):
        client.job(job_id)
    return connect(PATIENT_SECONDS)


def sentence(error: ClientError) -> str:
    """An error in one line."""
    words = error.message.rstrip(".")
    if isinstance(error, RequestFailed):
        if fields := "; ".join(f"{name}: {' '.join(texts)}" for name, texts in error.errors.items()):
            words += f": {fields.rstrip('.')}"
        if error.status >= 500 and error.request_id:
            words += f" (request {error.request_id})"
    if isinstance(error, NotAuthenticated) and error.code != "invalid_credentials":
        words += ": run carillon login"
    return clean(f"{words}.")


def do_to_each(job_ids: Iterable[str], act: Callable[[str], Document], said: Callable[[Document], str]) -> None:
    """Do something to several jobs and say of each what came of it; exit code 1 if one was refused."""
    refused = False
    for job_id in job_ids:
        try:
            click.echo(said(act(job_id)))
        except ClientError as error:
            refused = True
            click.echo(f"Error: {clean(job_id)}: {sentence(error)}", err=True)
    if refused:
        raise click.exceptions.Exit(1)
