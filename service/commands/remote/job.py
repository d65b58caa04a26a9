"""`carillon job`."""

from __future__ import annotations

import click

from service.commands.display import as_json, job_sheet
from service.commands.server import RemoteCommand, connect


@click.command("job", cls=RemoteCommand)
@click.argument("job_id")
@click.option("--json", "in_json", is_flag=True, help="Print it as JSON.")
def command(job_id: str, in_json: bool) -> None:
    """Show a job as it is now."""
    with connect() as client:
        job = client.job(job_id)
    click.echo(as_json(job) if in_json else job_sheet(job))
