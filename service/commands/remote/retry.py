"""`carillon retry`."""

from __future__ import annotations

import click

from service.commands.server import RemoteCommand, connect, do_to_each


@click.command("retry", cls=RemoteCommand)
@click.argument("job_ids", metavar="JOB_ID...", nargs=-1, required=True)
def command(job_ids: tuple[str, ...]) -> None:
    """Run failed or cancelled jobs again."""
    with connect() as client:
        do_to_each(job_ids, client.retry, lambda job: f"{job['id']} is {job['status']}")
