"""The default namespace: connect, authenticate, subscribe."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any
from uuid import UUID

import structlog
from flask import Flask, request
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
from service.jobs.errors import JobNotFound
from service.jobs.queries import visible_job
from service.jobs.representation import job_json
from service.realtime.gateway import Gateway
from service.realtime.log import parse_event_id
from service.realtime.vocabulary import job_room
from service.web import error_json

log = structlog.get_logger(__name__)

AUTHENTICATE_SECONDS = 10
EXPIRY_WARNING_SECONDS = 60
SWEEP_SECONDS = 1.0
MAXIMUM_SUBSCRIPTIONS = 500
EVENTS_AT_ONCE = 100.0
EVENTS_A_SECOND = 20.0


@dataclass
class Session:
    """A connected socket; no identity yet where it is still to authenticate."""

    connected_at: float
    identity: Identity | None = None
    # job id → the owner whose events bring it
    subscriptions: dict[str, str] = field(default_factory=dict)
    warned: bool = False
    # Events it may still send at once; they come back at a steady rate.
    events_left: float = EVENTS_AT_ONCE
    refilled_at: float = field(default_factory=time.monotonic)

    def spend(self) -> None:
        """Count an event of the client; raises RateLimited for one that sends too many."""
        now = time.monotonic()
        back = (now - self.refilled_at) * EVENTS_A_SECOND
        self.events_left, self.refilled_at = min(EVENTS_AT_ONCE, self.events_left + back), now
        if self.events_left < 1:
            raise RateLimited(retry_after=1)
        self.events_left -= 1


Handler = Callable[..., dict[str, Any]]


class DefaultNamespace:
    """The handlers of the default namespace and the sockets that are connected to this node."""

    def __init__(self, app: Flask, socketio: SocketIO, gateway: Gateway) -> None:
        self._app = app
        self._socketio = socketio
        self._gateway = gateway
        self._sessions: dict[str, Session] = {}
        self._sweeps = False

    @property
    def connected(self) -> int:
        """How many sockets are connected."""
        return len(self._sessions)

    def register(self) -> None:
        """Have the server call the handlers."""
        self._socketio.on_event("connect", self._connect)
        self._socketio.on_event("disconnect", self._disconnect)
        self._socketio.on_event("authenticate", self._acknowledged(self._authenticate))
        self._socketio.on_event("subscribe:job", self._acknowledged(self._subscribe))
        self._socketio.on_event("unsubscribe:job", self._acknowledged(self._unsubscribe))

    def _connect(self, auth: Any = None) -> None:
        if request.sid in self._sessions:  # type: ignore[attr-defined]
            # Only a client that emits "connect" as an event of its own comes here again.
            return
        session = self._sessions[request.sid] = Session(connected_at=time.time())  # type: ignore[attr-defined]
        if not self._sweeps:
            self._sweeps = True
            self._socketio.start_background_task(self._sweep)
        if not isinstance(auth, dict) or "token" not in auth:
            return
        try:
            self._identify(request.sid, session, auth)  # type: ignore[attr-defined]
        except CarillonError as error:
            del self._sessions[request.sid]  # type: ignore[attr-defined]
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
        user_id = str(identity.user_id)
        newest = self._gateway.join(sid, user_id, parse_event_id(last) if last else None, resumes=bool(last))
        known = {"userId": user_id, "lastEventId": str(newest) if newest else None}
        self._socketio.emit("authenticated", known, to=sid)
        return known

    def _disconnect(self, *_reason: Any) -> None:
        session = self._sessions.pop(request.sid, None)  # type: ignore[attr-defined]
        if session is None or session.identity is None:
            return
        self._gateway.unfollow(str(session.identity.user_id))
        for owner in session.subscriptions.values():
            self._gateway.unfollow(owner)

    def _acknowledged(self, handler: Handler) -> Handler:
        """Turn what a handler returns or raises into the acknowledgement of its event."""

        @wraps(handler)
        def handle(data: Any = None, *_more: Any) -> dict[str, Any]:
            failure: CarillonError
            try:
                self._session().spend()
                return {"ok": True, **handler(request.sid, self._session(), data)}  # type: ignore[attr-defined]
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

    def _subscribe(self, sid: str, session: Session, data: Any) -> dict[str, Any]:
        if session.identity is None:
            raise NotAuthenticated
        job_id = _job_id(data)
        if len(session.subscriptions) >= MAXIMUM_SUBSCRIPTIONS:
            raise RateLimited(f"A socket may follow {MAXIMUM_SUBSCRIPTIONS} jobs.")
        row = visible_job(UUID(job_id), session.identity)
        if job_id not in session.subscriptions:
            if self._sessions.get(sid) is not session:
                # It left while the job was read.
                raise NotAuthenticated
            owner = str(row["user_id"])
            session.subscriptions[job_id] = owner
            self._gateway.follow(owner)
            self._socketio.server.enter_room(sid, job_room(job_id))
            # Read again: what happened between the first look and the room would be missed.
            row = visible_job(UUID(job_id), session.identity)
        return {"job": job_json(row)}

    def _unsubscribe(self, sid: str, session: Session, data: Any) -> dict[str, Any]:
        job_id = _job_id(data)
        owner = session.subscriptions.pop(job_id, None)
        if owner is not None:
            self._socketio.server.leave_room(sid, job_room(job_id))
            self._gateway.unfollow(owner)
        return {}

    def _sweep(self) -> None:
        """Disconnects who does not authenticate in time, and whose token has run out in spite of a warning."""
        while True:
            self._socketio.sleep(SWEEP_SECONDS)
            try:
                self._sweep_once(time.time())
            except Exception:
                # Tokens must go on running out.
                log.exception("sweep_failed")

    def _sweep_once(self, now: float) -> None:
        for sid, session in list(self._sessions.items()):
            if session.identity is None:
                ends = session.connected_at + AUTHENTICATE_SECONDS
            else:
                ends = session.identity.expires_at
                if now >= ends - EXPIRY_WARNING_SECONDS and not session.warned:
                    session.warned = True
                    self._socketio.emit("auth:expiring", {"expiresInSeconds": max(0, int(ends - now))}, to=sid)
            if now >= ends:
                self._socketio.server.disconnect(sid)


def _job_id(data: Any) -> str:
    """The job id of `"…"` or `{jobId: "…"}`; raises JobNotFound for what is none."""
    given = data.get("jobId") if isinstance(data, dict) else data
    try:
        return str(UUID(str(given)))
    except ValueError:
        raise JobNotFound from None
