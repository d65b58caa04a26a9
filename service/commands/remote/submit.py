"""`carillon submit`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from service.client.errors import Document
from service.commands.display import as_json
from service.commands.refusals import Refused
from service.commands.server import PATIENT_SECONDS, RemoteCommand, connect
from service.commands.watching import watch_jobs

# Options whose value is text even where it looks like a number, and lists even where there is one value.
TEXTS = frozenset({"concurrencyKey", "queue", "retryStrategy", "runAt", "singletonKey"})
LISTS = frozenset({"dependsOn", "tags"})


@click.command("submit", cls=RemoteCommand)
@click.argument("type_", metavar="TYPE")
@click.option("--payload", default="{}", help="JSON, @FILE, or - for standard input.")
@click.option("--name", help="What the job is called; the title of its type if not given.")
@click.option(
    "--option",
    "pairs",
    metavar="KEY=VALUE",
    multiple=True,
    help="An option of the API, as delay=60 or priority=90; tags=WORD and dependsOn=JOB_ID may be repeated.",
)
@click.option("--idempotency-key", help="The same key submits the job once, however often the command runs.")
@click.option("--watch", is_flag=True, help="Watch the job until it ends.")
@click.option("--json", "in_json", is_flag=True, help="Print the job as JSON; what is watched goes to stderr.")
def command(
    *,
    type_: str,
    payload: str,
    name: str | None,
    pairs: tuple[str, ...],
    idempotency_key: str | None,
    watch: bool,
    in_json: bool,
) -> None:
    """Submit a job and print its id.

    With --watch the exit code is 0 when it completed, 1 when it failed, 3 when it was cancelled.
    """
    body, options = _payload(payload), _options(pairs)
    with connect() as client:
        job = client.submit(type_, body, name=name, idempotency_key=idempotency_key, **options)
    if not watch:
        click.echo(as_json(job) if in_json else job["id"])
        return
    with connect(PATIENT_SECONDS) as client:
        watched = watch_jobs(client, [job["id"]], sys.stderr if in_json else sys.stdout)
    if in_json:
        click.echo(as_json(watched.jobs.get(job["id"], job)))
    raise click.exceptions.Exit(watched.exit_code)


def _payload(given: str) -> Document:
    payload = _json(_text(given))
    if not isinstance(payload, dict):
        raise Refused("The payload is not a JSON object.")
    return payload


def _text(given: str) -> str:
    if given == "-":
        return sys.stdin.read()
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{given[1:]} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}.") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Refused(f"The payload is not valid JSON: {error}.") from None


def _options(pairs: tuple[str, ...]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise Refused(f"--option {pair} is not of the form KEY=VALUE.")
        if key in LISTS:
            options.setdefault(key, []).extend(_several(value))
        else:
            options[key] = value if key in TEXTS else _one(value)
    return options


def _several(value: str) -> list[Any]:
    found = _one(value)
    return found if isinstance(found, list) else [value]


def _one(value: str) -> Any:
    """A value as JSON, or as the text it is."""
    try:
        return json.loads(value)
    except ValueError:
        return value
