"""Who the client acts for: a token as it is, or a session whose tokens are renewed when they run out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

from service.client.errors import NotAuthenticated

# Posts a body to a path, without authentication, and gives the JSON of the answer.
Ask = Callable[[str, dict[str, Any]], dict[str, Any]]


class Credentials(Protocol):
    """What gives access tokens; asked from several threads at once."""

    def token(self, ask: Ask) -> str:
        """The access token to send; raises NotAuthenticated."""

    def renewed(self, refused: str, ask: Ask) -> str | None:
        """The token to send instead of one that was refused; None where there is no other."""


@dataclass(frozen=True)
class FixedToken:
    """An access token that somebody else renews."""

    access: str

    def token(self, ask: Ask) -> str:  # noqa: ARG002
        """The token."""
        return self.access

    def renewed(self, refused: str, ask: Ask) -> str | None:  # noqa: ARG002
        """There is no other."""
        return None


@dataclass(frozen=True)
class Tokens:
    """The tokens of a session; the refresh token can be used once."""

    access: str
    refresh: str

    @classmethod
    def taken_from(cls, answer: dict[str, Any]) -> Self:
        """The tokens in the answer to a login or a refresh."""
        return cls(answer["accessToken"], answer["refreshToken"])


class Session:
    """Tokens that are renewed by one request, however many threads find them run out at the same time."""

    def __init__(self, tokens: Tokens | None = None) -> None:
        self._tokens = tokens
        self._lock = threading.Lock()

    def token(self, ask: Ask) -> str:
        """The access token to send; raises NotAuthenticated."""
        with self._lock:
            if self._tokens is None:
                self._tokens = self.open(ask)
            return self._tokens.access

    def renewed(self, refused: str, ask: Ask) -> str | None:
        """The token to send instead of one that was refused; None where there is no other."""
        with self._lock:
            if self._tokens is None or self._tokens.access == refused:
                self._tokens = self.renew(self._tokens, ask)
            return None if self._tokens is None else self._tokens.access

    def open(self, ask: Ask) -> Tokens:  # noqa: ARG002
        """The first tokens; raises NotAuthenticated where there are none."""
        raise NotAuthenticated(code="not_authenticated", status=401)

    def renew(self, tokens: Tokens | None, ask: Ask) -> Tokens | None:
        """The next tokens; None when the session has ended."""
        return None if tokens is None else refreshed(tokens, ask)


class Login(Session):
    """A session opened with a password, and opened anew when it has ended."""

    def __init__(self, username: str, password: str) -> None:
        super().__init__()
        self._username = username
        self._password = password

    def open(self, ask: Ask) -> Tokens:
        """Log in."""
        return Tokens.taken_from(ask("/api/auth/login", {"username": self._username, "password": self._password}))

    def renew(self, tokens: Tokens | None, ask: Ask) -> Tokens:
        """Refresh the tokens, or log in again."""
        return super().renew(tokens, ask) or self.open(ask)


def refreshed(tokens: Tokens, ask: Ask) -> Tokens | None:
    """The tokens that a refresh token is changed for; None when its session has ended."""
    try:
        return Tokens.taken_from(ask("/api/auth/refresh", {"refreshToken": tokens.refresh}))
    except NotAuthenticated:
        return None
