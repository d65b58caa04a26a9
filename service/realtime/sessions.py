"""The sockets of a namespace: who they are, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import structlog
from flask import request
from flask_socketio import ConnectionRefusedError as Refused
from flask_socketio import SocketIO
from sqlalchemy.exc import SQLAlchemyError

from service.accounts.identity import Identity, identity_of
from service.errors import (
    CarillonError,
    InvalidToken,
    NotAuthenticated,
    RateLimited,
    ServiceUnavailable,
    ValidationFailed,
)
from service.ids import new_id
from service.realtime.flood import EVENTS_A_SECOND, EVENTS_AT_ONCE, Allowance
from service.realtime.gateway import Gateway
from service.realtime.log import parse_event_id
from service.web import error_json

log = structlog.get_logger(__name__)

AUTHENTICATE_SECONDS = 10
EXPIRY_WARNING_SECONDS = 60


@dataclass
class Session:
    """A connected socket; no identity yet where it is still to authenticate."""

    connected_at: float
    identity: Identity | None = None
    # job id → the owner whose events bring it
    subscriptions: dict[str, str] = field(default_factory=dict)
    warned: bool = False
    allowance: Allowance = field(default_factory=lambda: Allowance(EVENTS_AT_ONCE, EVENTS_A_SECOND))


Handler = Callable[..., dict[str, Any]]


class Sessions:
    """The handlers that every namespace has, and the sockets that are connected to it on this node."""

    namespace: str

    def __init__(self, socketio: SocketIO, gateway: Gateway, watch: Callable[[], None]) -> None:
        """`watch` sees to it that `sweep` is called from now on."""
        self.socketio = socketio
        self.gateway = gateway
        self._watch = watch
        self._sessions: dict[str, Session] = {}

    def register(self) -> None:
        """Have the server call the handlers."""
        self.socketio.on_event("connect", self._connect, namespace=self.namespace)
        self.socketio.on_event("disconnect", self._disconnect, namespace=self.namespace)
        self.on("authenticate", self._authenticate)

    def on(self, name: str, handler: Handler) -> None:
        """Have an event of clients be handled, and acknowledged with what comes of it."""
        self.socketio.on_event(name, self._acknowledged(handler), namespace=self.namespace)

    def welcome(self, sid: str, session: Session) -> None:
        """What a socket of the namespace hears first, once it is known whose it is."""

    def is_here(self, sid: str, session: Session) -> bool:
        """Whether a socket is still connected."""
        return self._sessions.get(sid) is session

    def _connect(self, auth: Any = None) -> None:
        sid = request.sid  # type: ignore[attr-defined]
        if sid in self._sessions:
            # Only a client that emits "connect" as an event of its own comes here again.
            return
        session = self._sessions[sid] = Session(connected_at=time.time())
        self._watch()
        if not isinstance(auth, dict) or "token" not in auth:
            return
        try:
            self._identify(sid, session, auth)
        except CarillonError as error:
            del self._sessions[sid]
            raise Refused(error.message, error_json(error, None)) from None

    def _identify(self, sid: str, session: Session, auth: dict[str, Any]) -> dict[str, Any]:
        """Take the identity of a token, and resume where the client left off."""
        token = auth.get("token")
        if not isinstance(token, str):
            raise InvalidToken
        identity = identity_of(token)
        if session.identity is not None:
            if session.identity.user_id != identity.user_id:
                raise InvalidToken("This socket belongs to another user.")
            session.identity, session.warned = identity, False
            return {"userId": str(identity.user_id)}
        session.identity = identity
        last = auth.get("lastEventId")
        since = parse_event_id(last) if last else None
        user_id = str(identity.user_id)
        newest = self.gateway.join(self.namespace, sid, user_id, since, resumes=bool(last))
        known = {"userId": user_id, "lastEventId": str(newest) if newest else None}
        self.socketio.emit("authenticated", known, to=sid, namespace=self.namespace)
        self.welcome(sid, session)
        return known

    def _disconnect(self, *_reason: Any) -> None:
        session = self._sessions.pop(request.sid, None)  # type: ignore[attr-defined]
        if session is None or session.identity is None:
            return
        self.gateway.unfollow(str(session.identity.user_id))
        for owner in session.subscriptions.values():
            self.gateway.unfollow(owner)

    def _acknowledged(self, handler: Handler) -> Handler:
        """Turn what a handler returns or raises into the acknowledgement of its event."""

        @wraps(handler)
        def handle(data: Any = None, *_more: Any) -> dict[str, Any]:
            failure: CarillonError
            try:
                session = self._session()
                if not session.allowance.spend():
                    raise RateLimited(retry_after=1)
                return {"ok": True, **handler(request.sid, session, data)}  # type: ignore[attr-defined]
            except CarillonError as error:
                failure = error
            except SQLAlchemyError as error:
                log.warning("dependency_unavailable", error=type(error).__name__)
                failure = ServiceUnavailable()
            except Exception:
                log.exception("socket_event_failed")
                failure = CarillonError("Something went wrong on our side.")
            return {"ok": False, "error": error_json(failure, str(new_id()))}

        return handle

    def _session(self) -> Session:
        try:
            return self._sessions[request.sid]  # type: ignore[attr-defined]
        except KeyError:
            raise NotAuthenticated from None

    def _authenticate(self, sid: str, session: Session, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise ValidationFailed(errors={"token": ["Missing data for required field."]})
        return self._identify(sid, session, data)

    def sweep(self, now: float) -> None:
        """Disconnect who does not authenticate in time, and whose token has run out in spite of a warning."""
        for sid, session in list(self._sessions.items()):
            if session.identity is None:
                ends = session.connected_at + AUTHENTICATE_SECONDS
            else:
                ends = session.identity.expires_at
                if now >= ends - EXPIRY_WARNING_SECONDS and not session.warned:
                    session.warned = True
                    left = {"expiresInSeconds": max(0, int(ends - now))}
                    self.socketio.emit("auth:expiring", left, to=sid, namespace=self.namespace)
            if now >= ends:
                self.socketio.server.disconnect(sid, namespace=self.namespace)
