"""`carillon jobs`."""

from __future__ import annotations

import click

from service.commands.display import as_json, job_table
from service.commands.server import RemoteCommand, connect


@click.command("jobs", cls=RemoteCommand)
@click.option("--status", help="In this status: active, failed, …")
@click.option("--type", "type_", help="Of this type.")
@click.option("--tag", help="With this tag.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
@click.option("--json", "in_json", is_flag=True, help="Print them as JSON.")
def command(status: str | None, type_: str | None, tag: str | None, limit: int, in_json: bool) -> None:
    """List your jobs, newest first."""
    with connect() as client:
        jobs = list(client.jobs(limit=limit, status=status, type=type_, tag=tag))
    if in_json:
        click.echo(as_json(jobs))
    elif jobs:
        click.echo(job_table(jobs))
