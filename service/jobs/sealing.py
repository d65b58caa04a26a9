"""What sensitive jobs take, give and log, sealed: encrypted, and for nobody but the job's owner.

Sealed is what leaves the process that read or made it: for SQL, Celery's result backend, events. The owner's id is
part of what is encrypted, so that a seal which somebody copies into a job of his own does not open there.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from cryptography.fernet import InvalidToken

from service.crypto import decrypt, encrypt, rotated

KEY = "$sealed"


class Unreadable(Exception):
    """It cannot be opened: its key is gone, or it was sealed for another user."""


def seal(value: Any, owner: UUID | str) -> dict[str, str]:
    """The envelope `{"$sealed": token}` of a JSON value; raises what `json.dumps` raises."""
    return {KEY: seal_text(json.dumps(value), owner)}


def unseal(envelope: Any, owner: UUID | str) -> Any:
    """The JSON value in an envelope; raises Unreadable."""
    token = envelope.get(KEY) if isinstance(envelope, dict) else None
    if not isinstance(token, str):
        raise Unreadable
    return json.loads(unseal_text(token, owner))


def seal_text(text: str, owner: UUID | str) -> str:
    """A text as a token: a line of a job's log."""
    return encrypt(f"{owner}:{text}").decode()


def unseal_text(token: str, owner: UUID | str) -> str:
    """The text in a token; raises Unreadable."""
    try:
        sealed_for, _, text = decrypt(token.encode()).partition(":")
    except InvalidToken:
        raise Unreadable from None
    if sealed_for != str(owner):
        raise Unreadable
    return text


def resealed(envelope: dict[str, str]) -> dict[str, str] | None:
    """The envelope under the first key; None where it is so already. Raises InvalidToken when no key fits."""
    # What is no envelope cannot be opened by anybody either.
    token = rotated(envelope.get(KEY, "").encode())
    return None if token is None else {KEY: token.decode()}
