"""What can go wrong, each with a stable code and a status; the docstring is the default message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class CarillonError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500

    def __init__(
        self,
        message: str | None = None,
        *,
        errors: Mapping[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.errors = errors
        self.retry_after = retry_after
        super().__init__(self.message)


class MalformedRequest(CarillonError):
    """The request could not be read."""

    code, status = "malformed_request", 400


class NotAuthenticated(CarillonError):
    """Authentication is needed."""

    code, status = "not_authenticated", 401


class InvalidToken(NotAuthenticated):
    """The token is not valid."""

    code = "invalid_token"


class TokenExpired(NotAuthenticated):
    """The token has expired."""

    code = "token_expired"


class InvalidCredentials(NotAuthenticated):
    """User name or password is wrong."""

    code = "invalid_credentials"


class NotAllowed(CarillonError):
    """You are not allowed to do this."""

    code, status = "not_allowed", 403


class NotFound(CarillonError):
    """There is no such thing."""

    code, status = "not_found", 404


class Conflict(CarillonError):
    """This is in conflict with what exists."""

    code, status = "conflict", 409


class BodyTooLarge(CarillonError):
    """The request body is too large."""

    code, status = "body_too_large", 413


class WrongContentType(CarillonError):
    """The content type must be application/json."""

    code, status = "unsupported_media_type", 415


class ValidationFailed(CarillonError):
    """Some fields are not valid."""

    code, status = "validation_failed", 422


class RateLimited(CarillonError):
    """Too many requests."""

    code, status = "rate_limited", 429


class ServiceUnavailable(CarillonError):
    """A service that is needed is away; try again shortly."""

    code, status = "service_unavailable", 503


def flatten_messages(messages: Any, prefix: str = "") -> dict[str, list[str]]:
    """marshmallow's nested messages as `{"field.below": [message]}`."""
    if not isinstance(messages, Mapping):
        texts = messages if isinstance(messages, list) else [messages]
        return {prefix or "_schema": [str(text) for text in texts]}
    flat: dict[str, list[str]] = {}
    for key, below in messages.items():
        name = prefix if key == "_schema" else f"{prefix}.{key}" if prefix else str(key)
        flat |= flatten_messages(below, name)
    return flat
