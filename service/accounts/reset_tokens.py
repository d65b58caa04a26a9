"""The token in the link of a password reset.

It is an HMAC over the request's id and the present password hash: computed when the mail is written and when the link
comes back, stored nowhere, and worthless as soon as the password has changed.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID

from service.accounts.errors import InvalidResetToken
from service.settings import current_settings


def reset_token(reset_id: UUID, password_hash: str) -> str:
    """The token of a request, the same whenever it is computed."""
    # Named, so that no other use of the same key makes a signature that is valid here.
    message = f"carillon password reset\n{reset_id}\n{password_hash}"
    signature = hmac.digest(current_settings().secret_key.encode(), message.encode(), hashlib.sha256)
    return f"{_text(reset_id.bytes)}.{_text(signature)}"


def reset_id_of(token: str) -> UUID:
    """The id of the request that a token claims to be of; raises InvalidResetToken."""
    try:
        return UUID(bytes=urlsafe_b64decode(f"{token.partition('.')[0]}=="))
    except ValueError:
        raise InvalidResetToken from None


def fits(token: str, reset_id: UUID, password_hash: str) -> bool:
    """Whether the token is the one of this request and password."""
    return hmac.compare_digest(token.encode(), reset_token(reset_id, password_hash).encode())


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")
