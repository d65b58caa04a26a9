"""Who is asking: every route wants an identity unless it is marked public."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

from flask import current_app, g, request

from service.accounts.roles import ADMIN, OPERATOR
from service.accounts.tickets import take_ticket
from service.accounts.tokens import verify_access_token
from service.errors import NotAllowed, NotAuthenticated

P = ParamSpec("P")
R = TypeVar("R")

# Routes of flask-smorest's own, which cannot be marked.
PUBLIC_ENDPOINTS = frozenset({"api-docs.openapi_json"})


@dataclass(frozen=True, slots=True)
class Identity:
    """The user behind a request or a socket."""

    user_id: UUID
    organization_id: UUID
    username: str
    roles: frozenset[str]
    expires_at: int

    @property
    def is_operator(self) -> bool:
        """Whether this user sees the whole tenant."""
        return bool(self.roles & {ADMIN, OPERATOR})

    @property
    def claims(self) -> dict[str, Any]:
        """The identity as an access token carries it."""
        return {
            "sub": str(self.user_id),
            "org": str(self.organization_id),
            "name": self.username,
            "roles": sorted(self.roles),
            "exp": self.expires_at,
        }


def identity_of(token: str) -> Identity:
    """The identity an access token carries; raises InvalidToken or TokenExpired."""
    return _claimed(verify_access_token(token))


def _claimed(claims: Mapping[str, Any]) -> Identity:
    return Identity(
        user_id=UUID(claims["sub"]),
        organization_id=UUID(claims["org"]),
        username=claims["name"],
        roles=frozenset(claims["roles"]),
        expires_at=claims["exp"],
    )


def public(view: Callable[P, R]) -> Callable[P, R]:
    """Mark a route that needs no identity."""
    view.is_public = True  # type: ignore[attr-defined]  # read by `authenticate_request`
    return view


def takes_ticket(view: Callable[P, R]) -> Callable[P, R]:
    """Mark a route that a browser's `EventSource` may read with a ticket instead of a header."""
    view.takes_ticket = True  # type: ignore[attr-defined]  # read by `authenticate_request`
    return view


def requires_role(*roles: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Refuse (403) whoever has none of the roles."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            if not current_identity().roles & set(roles):
                raise NotAllowed
            return view(*args, **kwargs)

        return checked

    return decorate


def authenticate_request() -> None:
    """Before each request: sets the identity, or raises NotAuthenticated where the route is not public."""
    endpoint = request.endpoint
    # Before it sends a token a browser asks whether it may, without one; nothing of ours answers OPTIONS.
    if endpoint is None or endpoint in PUBLIC_ENDPOINTS or request.method == "OPTIONS":
        return
    view = current_app.view_functions[endpoint]
    if getattr(view, "is_public", False):
        return
    if getattr(view, "takes_ticket", False) and "ticket" in request.args:
        g.identity = _claimed(take_ticket(request.args["ticket"]))
        return
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticated
    g.identity = identity_of(token.strip())


def current_identity() -> Identity:
    """The identity of the present request."""
    return cast(Identity, g.identity)
