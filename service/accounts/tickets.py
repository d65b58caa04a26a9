"""Tickets for streams: browsers' `EventSource` sends no header, and a token does not belong into an address."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Any, cast

from service.errors import InvalidToken
from service.redis_client import redis

TICKET_SECONDS = 30


def _key(ticket: str) -> str:
    return f"carillon:ticket:{hashlib.sha256(ticket.encode()).hexdigest()}"


def issue_ticket(claims: Mapping[str, Any]) -> str:
    """A ticket that stands for these claims once, within 30 s."""
    ticket = secrets.token_urlsafe(32)
    redis().set(_key(ticket), json.dumps(claims), ex=TICKET_SECONDS)
    return ticket


def take_ticket(ticket: str) -> dict[str, Any]:
    """The claims that a ticket stands for, which is used up by this; raises InvalidToken."""
    found = cast("bytes | None", redis().getdel(_key(ticket)))
    if found is None:
        raise InvalidToken("This ticket is unknown, used or too old.")
    claims: dict[str, Any] = json.loads(found)
    return claims
