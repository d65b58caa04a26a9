"""`carillon logs`."""

from __future__ import annotations

import click

from service.commands.display import log_line
from service.commands.server import RemoteCommand, connect_patiently


@click.command("logs", cls=RemoteCommand)
@click.argument("job_id")
@click.option("--follow", "-f", is_flag=True, help="Go on until the job has ended.")
def command(job_id: str, follow: bool) -> None:
    """Print what a job logged, first to last."""
    with connect_patiently(job_id) as client:
        for line in client.logs(job_id, follow=follow):
            click.echo(log_line(line))
