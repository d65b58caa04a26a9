"""`carillon cancel`."""

from __future__ import annotations

import click

from service.client.errors import Document
from service.commands.server import RemoteCommand, connect, do_to_each


@click.command("cancel", cls=RemoteCommand)
@click.argument("job_ids", metavar="JOB_ID...", nargs=-1, required=True)
@click.option("--reason", help="Why; its owner and whoever watches it are told.")
def command(job_ids: tuple[str, ...], reason: str | None) -> None:
    """Cancel jobs; one that runs ends as soon as it notices."""
    with connect() as client:
        do_to_each(job_ids, lambda job_id: client.cancel(job_id, reason), _said)


def _said(job: Document) -> str:
    return f"{job['id']} is {'cancelled' if job['status'] == 'cancelled' else 'asked to stop'}"
