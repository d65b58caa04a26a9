"""Access tokens: JWTs signed with HS256, short-lived, verified without the database."""

from __future__ import annotations

import time
from typing import Any

import jwt

from service.accounts.models import User
from service.errors import InvalidToken, TokenExpired
from service.settings import current_settings

ALGORITHM = "HS256"
ISSUER = "carillon"
CLAIMS = ("sub", "org", "name", "roles", "exp", "iat")


def issue_access_token(user: User) -> tuple[str, int]:
    """A token for the user and its life in seconds."""
    lifetime = current_settings().access_token_seconds
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "sub": str(user.id),
        "org": str(user.organization_id),
        "name": user.username,
        "roles": user.roles,
        "iat": now,
        "exp": now + lifetime,
    }
    return jwt.encode(claims, current_settings().secret_key, algorithm=ALGORITHM), lifetime


def verify_access_token(token: str) -> dict[str, Any]:
    """The claims of a token; raises TokenExpired or InvalidToken."""
    try:
        return jwt.decode(
            token,
            current_settings().secret_key,
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            options={"require": list(CLAIMS)},
        )
    except jwt.ExpiredSignatureError:
        raise TokenExpired from None
    except jwt.InvalidTokenError:
        raise InvalidToken from None
