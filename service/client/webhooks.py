"""Webhooks that arrive: whether they are from who holds the secret, as Standard Webhooks 1.0.0 says."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from service.client.errors import WebhookNotVerified

PREFIX = "whsec_"
# By how much the sender's clock and this one may differ; an older webhook may be a copy that somebody sends again.
TOLERANCE_SECONDS = 300


def verify_webhook(secret: str, headers: Mapping[str, str], body: bytes) -> Any:
    """The JSON of a webhook that is proved to be from who holds the secret.

    `headers`: names in any case. `body`: the bytes as they arrived, before anything has parsed them. While a secret is
    exchanged for another, each of the two verifies. Raises WebhookNotVerified; ValueError for what is no secret.
    """
    key = secret_key(secret)
    message_id, timestamp, signatures = _proof(headers)
    _check_time(timestamp)
    signed = b"%b.%b.%b" % (message_id.encode(), timestamp.encode(), body)
    expected = b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256"))
    if not any(hmac.compare_digest(expected, signature.encode()) for signature in signatures.split(" ")):
        raise WebhookNotVerified("No signature was made with this secret over these bytes.")
    try:
        return json.loads(body)
    except ValueError:
        raise WebhookNotVerified("The body is not JSON.") from None


def secret_key(secret: str) -> bytes:
    """The key in a secret, `whsec_` and base64; raises ValueError."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        # Never the secret itself: this text ends in logs.
        raise ValueError("A webhook's secret is 'whsec_' and base64")
    return key


def _proof(headers: Mapping[str, str]) -> tuple[str, str, str]:
    """What the three headers say: id, time, signatures."""
    given = {name.lower(): value for name, value in headers.items()}
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    if missing := [name for name in names if not given.get(name)]:
        raise WebhookNotVerified(f"The header {missing[0]} is missing.")
    message_id, timestamp, signatures = (given[name] for name in names)
    return message_id, timestamp, signatures


def _check_time(timestamp: str) -> None:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16):
        raise WebhookNotVerified("The header webhook-timestamp is not a time.")
    age = time.time() - int(timestamp)
    if abs(age) > TOLERANCE_SECONDS:
        when = "old" if age > 0 else "ahead of this clock"
        raise WebhookNotVerified(f"It is {abs(age):.0f} s {when}; {TOLERANCE_SECONDS} s are the most.")
