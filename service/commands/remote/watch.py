"""`carillon watch`."""

from __future__ import annotations

import sys

import click

from service.commands.server import RemoteCommand, connect_patiently
from service.commands.watching import watch_jobs


@click.command("watch", cls=RemoteCommand)
@click.argument("job_ids", metavar="JOB_ID...", nargs=-1, required=True)
@click.option("--logs", is_flag=True, help="Show what the jobs log, too.")
def command(job_ids: tuple[str, ...], logs: bool) -> None:
    """Watch jobs until they have ended; Ctrl-C leaves them running.

    The exit code is 0 when all completed, 1 when one failed, 3 when one was cancelled.
    """
    with connect_patiently(job_ids[0]) as client:
        watched = watch_jobs(client, job_ids, sys.stdout, logs=logs)
    raise click.exceptions.Exit(watched.exit_code)
