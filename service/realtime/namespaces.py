"""The namespaces: what a client may ask of each, and what it hears first."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from service.accounts.platform import runs_the_installation
from service.errors import NotAuthenticated, RateLimited
from service.jobs.errors import JobNotFound
from service.jobs.queries import visible_job
from service.jobs.representation import job_json
from service.notifications.counts import unread_count
from service.realtime.sessions import Session, Sessions
from service.realtime.vocabulary import DEFAULT, NOTIFICATIONS, QUEUE, job_room

MAXIMUM_SUBSCRIPTIONS = 500


class DefaultNamespace(Sessions):
    """All events of a user (S0, S1, S2), the rooms of jobs, and the state of the queues for who runs the platform."""

    namespace = DEFAULT

    def register(self) -> None:
        """Have the server call the handlers."""
        super().register()
        self.on("subscribe:job", self._subscribe)
        self.on("unsubscribe:job", self._unsubscribe)

    def welcome(self, sid: str, session: Session) -> None:
        """Operators hear how the queues stand."""
        if session.identity is not None and runs_the_installation(session.identity):
            self.gateway.show_stats(sid)

    def _subscribe(self, sid: str, session: Session, data: Any) -> dict[str, Any]:
        if session.identity is None:
            raise NotAuthenticated
        job_id = _job_id(data)
        if len(session.subscriptions) >= MAXIMUM_SUBSCRIPTIONS:
            raise RateLimited(f"A socket may follow {MAXIMUM_SUBSCRIPTIONS} jobs.")
        row = visible_job(UUID(job_id), session.identity)
        if job_id not in session.subscriptions:
            if not self.is_here(sid, session):
                # It left while the job was read.
                raise NotAuthenticated
            owner = str(row["user_id"])
            session.subscriptions[job_id] = owner
            self.gateway.follow(owner)
            self.socketio.server.enter_room(sid, job_room(job_id), namespace=DEFAULT)
            # Read again: what happened between the first look and the room would be missed.
            row = visible_job(UUID(job_id), session.identity)
        return {"job": job_json(row)}

    def _unsubscribe(self, sid: str, session: Session, data: Any) -> dict[str, Any]:
        job_id = _job_id(data)
        owner = session.subscriptions.pop(job_id, None)
        if owner is not None:
            self.socketio.server.leave_room(sid, job_room(job_id), namespace=DEFAULT)
            self.gateway.unfollow(owner)
        return {}


class QueueNamespace(Sessions):
    """What S4's clients listen to: one kind of event for all that happens to a user's jobs."""

    namespace = QUEUE


class NotificationsNamespace(Sessions):
    """The inbox, as it changes on whatever device, and how much of it is unread."""

    namespace = NOTIFICATIONS

    def welcome(self, sid: str, session: Session) -> None:
        """The present count, so that no device has to ask for it."""
        if session.identity is not None:
            count = unread_count(session.identity.user_id)
            self.socketio.emit("unread-count", count, to=sid, namespace=NOTIFICATIONS)


def _job_id(data: Any) -> str:
    """The job id of `"…"` or `{jobId: "…"}`; raises JobNotFound for what is none."""
    given = data.get("jobId") if isinstance(data, dict) else data
    try:
        return str(UUID(str(given)))
    except ValueError:
        raise JobNotFound from None
