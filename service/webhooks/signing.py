"""Signatures of Standard Webhooks 1.0.0, the symmetric scheme ``v1``."""

import base64
import binascii
import hmac
import re
import secrets as random
from collections.abc import Sequence

PREFIX = "whsec_"
SECRET_BYTES = 32

# The signed text joins its parts with full stops, so an id that holds one could be read in two ways.
_MESSAGE_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")


def new_secret() -> str:
    """Make a secret for one endpoint: ``whsec_`` and the base64 of 32 random bytes."""
    return PREFIX + base64.b64encode(random.token_bytes(SECRET_BYTES)).decode("ascii")


def sign(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Give the three headers that prove a body to its receiver.

    ``secrets``: every live secret of the endpoint, the newest first; each adds one signature, so that a
    receiver which still holds the old one goes on verifying while secrets are exchanged.
    ``message_id``: stable over the retries of one delivery. ``timestamp``: unix seconds of this attempt.
    ``body``: the exact bytes that are sent.
    Raises ValueError for no secret, a malformed secret or an id outside ``[A-Za-z0-9_-]{1,255}``.
    Source: Standard Webhooks 1.0.0, "Signature scheme": HMAC-SHA256 of ``{id}.{timestamp}.{body}``.
    """
    if not secrets:
        raise ValueError("a webhook needs at least one secret")
    if _MESSAGE_ID.fullmatch(message_id) is None:
        raise ValueError("a message id is 1 to 255 letters, digits, '_' or '-'")
    signed = b"%b.%d.%b" % (message_id.encode("ascii"), timestamp, body)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join([_signature(secret, signed) for secret in secrets]),
    }


def _signature(secret: str, signed: bytes) -> str:
    digest = hmac.digest(_key(secret), signed, "sha256")
    return "v1," + base64.b64encode(digest).decode("ascii")


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        # Never the secret itself: this text ends in logs.
        raise ValueError("a webhook secret is 'whsec_' and base64") from None
    if not key:
        raise ValueError("a webhook secret may not be empty")
    return key
