"""How webhooks that arrive look in a terminal, and to other programs."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from typing import Any

import click

from service.client.errors import Document
from service.commands.display import clean
from service.commands.listening import Arrival

REMEMBERED = 10_000
# Of what is no webhook at all.
TEXT_LIMIT = 2_000
# The flat format of a body names no type; what it carries does.
_TYPES = {"result": "job.completed", "error": "job.failed", "progress": "job.progress"}


class Arrivals:
    """Shows each webhook; one whose id was there before is marked, as receivers have to know it."""

    def __init__(self, *, in_json: bool) -> None:
        self._in_json = in_json
        self._times: OrderedDict[str, int] = OrderedDict()

    def show(self, arrival: Arrival) -> None:
        """Print it."""
        time = self._count(arrival.webhook_id)
        text = _line(arrival, time) if self._in_json else f"{_head(arrival, time)}\n{_pretty(arrival)}"
        # Neither half a character in what was posted nor a terminal without ✓ ends the listening.
        encoding = sys.stdout.encoding or "utf-8"
        click.echo(text.encode(encoding, "replace").decode(encoding))

    def _count(self, webhook_id: str | None) -> int:
        """The how-manieth time this id arrives."""
        if webhook_id is None:
            return 1
        self._times[webhook_id] = time = self._times.pop(webhook_id, 0) + 1
        if len(self._times) > REMEMBERED:
            self._times.popitem(last=False)
        return time


def _line(arrival: Arrival, time: int) -> str:
    body = _parsed(arrival.body)
    document: Document = {
        "receivedAt": arrival.received_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "type": _type(body),
        "webhookId": arrival.webhook_id,
        "verified": arrival.refusal is None,
        "reason": arrival.refusal,
        "time": time,
        "answered": arrival.answer.status,
        "trouble": arrival.answer.trouble,
        "body": body,
    }
    return json.dumps(document)


def _head(arrival: Arrival, time: int) -> str:
    parts = [
        f"{arrival.received_at.astimezone():%H:%M:%S}",
        click.style(clean(_type(_parsed(arrival.body)) or "?"), bold=True),
        clean(arrival.webhook_id or "without an id"),
        _verdict(arrival),
    ]
    if time > 1:
        parts.append(click.style(f"again ({time})", fg="yellow"))
    parts.append(_answered(arrival))
    return "  ".join(parts)


def _verdict(arrival: Arrival) -> str:
    if arrival.refusal is None:
        return click.style("✓ verified", fg="green")
    return click.style(f"✗ not verified: {clean(arrival.refusal.rstrip('.'))}", fg="red")


def _answered(arrival: Arrival) -> str:
    answer = arrival.answer
    if answer.trouble is not None:
        return click.style(f"answered {answer.status}: {clean(answer.trouble)}", fg="red")
    return click.style(f"answered {answer.status}", fg=None if answer.status < 300 else "red")


def _pretty(arrival: Arrival) -> str:
    body = _parsed(arrival.body)
    text = body[:TEXT_LIMIT] if isinstance(body, str) else json.dumps(body, indent=2, ensure_ascii=False)
    return "".join(f"  {clean(line)}\n" for line in text.splitlines())


def _type(body: Any) -> str | None:
    if not isinstance(body, dict):
        return None
    if isinstance(body.get("type"), str):
        return str(body["type"])
    return next((type_ for name, type_ in _TYPES.items() if name in body), None)


def _parsed(body: bytes) -> Any:
    """A body as JSON, or as the text it is."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode(errors="replace")
