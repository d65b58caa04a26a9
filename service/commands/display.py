"""How jobs look in a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import click

from service.client.errors import Document

_COLOURS = {
    "active": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "magenta",
    "retrying": "yellow",
}
# What terminals obey, or what turns the order of letters: names and messages come from other people.
_COMMANDS = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]+")


def clean(text: object) -> str:
    """Text on one line, without anything that a terminal obeys."""
    return _COMMANDS.sub(" ", str(text))


def as_json(document: Any) -> str:
    """A document for other programs."""
    return json.dumps(document, indent=2)


def compact(value: Any) -> str:
    """A value on one line."""
    return clean(json.dumps(value, ensure_ascii=False))


def coloured(status: str, width: int = 0) -> str:
    """A status in its colour; click leaves the colour out where there is no terminal."""
    return click.style(f"{status:{width}}", fg=_COLOURS.get(status))


def percent(job: Document) -> str:
    """How far a job has come, or nothing."""
    progress = job["progress"]
    return f"{progress['percentage']:.0f} %" if progress else ""


def job_table(jobs: Sequence[Document]) -> str:
    """A line for each job."""
    rows = [(job["id"], job["status"], percent(job), job["type"], job["createdAt"], job["name"]) for job in jobs]
    cells = [("ID", "STATUS", "", "TYPE", "CREATED", "NAME"), *(tuple(map(clean, row)) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(5)]
    return "\n".join(_line(row, widths) for row in cells)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    job_id, status, share, kind, created, name = row
    return (
        f"{job_id:{widths[0]}}  {coloured(status, widths[1])}  {share:>{widths[2]}}  "
        f"{kind:{widths[3]}}  {created:{widths[4]}}  {name}"
    )


def job_sheet(job: Document) -> str:
    """A job with all there is to say of it, a line each."""
    progress = job["progress"]
    rows: dict[str, Any] = {
        "id": job["id"],
        "name": job["name"],
        "type": job["type"],
        "status": coloured(job["status"]),
        "progress": f"{percent(job)} {clean(progress.get('message') or '')}".strip() if progress else None,
        "attempt": f"{job['attempt']} of {job['maxAttempts']}",
        "queue": job["queue"],
        "place in it": job.get("queuePosition"),
        "tags": ", ".join(job["tags"]),
        "created": job["createdAt"],
        "scheduled": job["scheduledAt"],
        "started": job["startedAt"],
        "next attempt": job["nextAttemptAt"],
        "ended": job["completedAt"],
        "result": None if job["result"] is None else compact(job["result"]),
        "error": None if job["error"] is None else error_words(job),
        "reason": job["cancelReason"],
    }
    shown = {name: value for name, value in rows.items() if value not in (None, "")}
    width = max(map(len, shown))
    return "\n".join(f"{name:{width}}  {value if name == 'status' else clean(value)}" for name, value in shown.items())


def error_words(job: Document) -> str:
    """Why a job failed."""
    error = job["error"] or {}
    return clean(f"{error.get('message')} ({error.get('code')})")


def ending(job: Document) -> str:
    """What came of a job."""
    if job["status"] == "failed":
        return error_words(job)
    if job["status"] == "cancelled":
        return clean(job["cancelReason"] or "")
    return "" if job["result"] is None else compact(job["result"])


def log_line(line: Document) -> str:
    """A line of a job's log."""
    message = "(sensitive)" if line["message"] is None else line["message"]
    return f"{line['createdAt']}  {line['level']:7}  {clean(message)}"
