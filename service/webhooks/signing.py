"""Signatures of Standard Webhooks 1.0.0: ``v1``, by a shared secret, and ``v1a``, which a public key verifies."""

import base64
import binascii
import hmac
import re
import secrets as random
from collections.abc import Sequence
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PREFIX = "whsec_"
SIGNING_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"
SECRET_BYTES = 32
SEED_BYTES = 32

# The signed text joins its parts with full stops, so an id that holds one could be read in two ways.
_MESSAGE_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")


def new_secret() -> str:
    """Make a secret for one endpoint: ``whsec_`` and the base64 of 32 random bytes."""
    return PREFIX + base64.b64encode(random.token_bytes(SECRET_BYTES)).decode("ascii")


def new_signing_key() -> tuple[str, str]:
    """Make a pair of ed25519 keys for one endpoint: the private key as ``whsk_…``, the public one as ``whpk_…``.

    The private text is the base64 of 64 bytes, the seed and the public key after it, as libsodium and Svix's
    server write it. The public text is the base64 of 32 bytes, and all that a receiver needs.
    """
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    private = key.private_bytes_raw() + public
    return (
        SIGNING_PREFIX + base64.b64encode(private).decode("ascii"),
        PUBLIC_PREFIX + base64.b64encode(public).decode("ascii"),
    )


def sign(
    secrets: Sequence[str],
    message_id: str,
    timestamp: int,
    body: bytes,
    signing_keys: Sequence[str] = (),
) -> dict[str, str]:
    """Give the three headers that prove a body to its receiver.

    ``secrets``: every live secret of the endpoint, the newest first; each adds one ``v1`` signature, so that a
    receiver which still holds the old one goes on verifying while secrets are exchanged. ``signing_keys``:
    likewise its private keys, for one ``v1a`` signature each, after the others.
    ``message_id``: stable over the retries of one delivery. ``timestamp``: unix seconds of this attempt.
    ``body``: the exact bytes that are sent.
    Raises ValueError for no secret, a malformed secret or key, or an id outside ``[A-Za-z0-9_-]{1,255}``.
    Source: Standard Webhooks 1.0.0, "Signature scheme": HMAC-SHA256 or ed25519 of ``{id}.{timestamp}.{body}``.
    """
    if not secrets:
        raise ValueError("a webhook needs at least one secret")
    if _MESSAGE_ID.fullmatch(message_id) is None:
        raise ValueError("a message id is 1 to 255 letters, digits, '_' or '-'")
    signed = b"%b.%d.%b" % (message_id.encode("ascii"), timestamp, body)
    signatures = [_token("v1", hmac.digest(_secret(secret), signed, "sha256")) for secret in secrets]
    signatures += [_token("v1a", _signing_key(key).sign(signed)) for key in signing_keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def _token(version: str, signature: bytes) -> str:
    return f"{version},{base64.b64encode(signature).decode('ascii')}"


@lru_cache(maxsize=4096)
def _secret(text: str) -> bytes:
    key = _decoded(text, PREFIX)
    if not key:
        raise ValueError("a webhook secret may not be empty")
    return key


@lru_cache(maxsize=4096)
def _signing_key(text: str) -> Ed25519PrivateKey:
    # The standard's own Go library takes the seed alone, Svix's server the seed and the public key.
    raw = _decoded(text, SIGNING_PREFIX)
    seed, public = raw[:SEED_BYTES], raw[SEED_BYTES:]
    if len(seed) != SEED_BYTES:
        raise ValueError("a webhook's signing key has 32 or 64 bytes")
    key = Ed25519PrivateKey.from_private_bytes(seed)
    if public and public != key.public_key().public_bytes_raw():
        raise ValueError("a webhook's signing key does not fit its public key")
    return key


def _decoded(text: str, prefix: str) -> bytes:
    try:
        return base64.b64decode(text.removeprefix(prefix), validate=True)
    except (binascii.Error, ValueError):
        # Never the secret itself: this text ends in logs.
        raise ValueError(f"a webhook's key is '{prefix}' and base64") from None
