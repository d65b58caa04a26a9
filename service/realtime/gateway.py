"""The gateway of a web node: reads the event log of the users connected here and speaks to their sockets.

Each user's events reach the local sockets in order and once. The Redis channel is only a wake-up with the event on it:
a number that does not follow the last one sends the gateway to the log, and what the log cannot tell is admitted with
`resumed {recovered: false}`.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import structlog
from flask import Flask
from flask_socketio import SocketIO
from redis import Redis
from redis.client import PubSub
from redis.exceptions import RedisError

from service.ids import new_id
from service.realtime.log import Event, EventId, channel_of, head, parse_message, read_after
from service.realtime.vocabulary import messages, user_room

log = structlog.get_logger(__name__)

# The gateway hears itself this often; after three silences it takes its connection for deaf.
HEARTBEAT_SECONDS = 2.0
DEAF_AFTER_SECONDS = 3 * HEARTBEAT_SECONDS
RECONNECT_SECONDS = 0.5
# A connecting socket waits so long for its user to be followed; after that it is told that nothing was recovered.
FOLLOW_SECONDS = 3.0


class _Followed:
    """A user with sockets on this node: how many, and the last event they were sent."""

    def __init__(self) -> None:
        self.sockets = 0
        self.last: EventId | None = None
        # Whether `last` was looked up: an unknown place in the log is not an empty log.
        self.has_begun = False
        self.lock = threading.RLock()
        self.ready = threading.Event()


class Gateway:
    """Follows users, speaks to rooms."""

    def __init__(self, app: Flask, socketio: SocketIO, redis_url: str) -> None:
        self._app = app
        self._socketio = socketio
        self._redis = Redis.from_url(redis_url, socket_connect_timeout=2, socket_timeout=5, protocol=2)
        self._own_channel = f"carillon:gateway:{new_id()}"
        self._users: dict[str, _Followed] = {}
        self._lock = threading.Lock()
        self._command_lock = threading.Lock()
        self._pubsub: PubSub | None = None
        self._heard_at = time.monotonic()
        self._listens = False

    def join(self, sid: str, user_id: str, last_event_id: EventId | None, *, resumes: bool) -> EventId | None:
        """Let a socket hear a user's events, after those it missed since `last_event_id` where it `resumes`.

        Returns the number of the last event it has now, None where the log is empty or away.
        """
        followed = self.follow(user_id)
        try:
            return self._join(followed, sid, user_id, last_event_id, resumes=resumes)
        except BaseException:
            self.unfollow(user_id)
            raise

    def _join(
        self, followed: _Followed, sid: str, user_id: str, last_event_id: EventId | None, *, resumes: bool
    ) -> EventId | None:
        is_ready = followed.ready.wait(FOLLOW_SECONDS)
        with followed.lock:
            followed.has_begun = True
            missed = self._missed(user_id, last_event_id, followed) if is_ready and last_event_id else None
            for event in missed or ():
                self._speak(event, only_to=sid)
            if resumes:
                outcome: dict[str, Any] = {"recovered": missed is not None}
                if missed is not None:
                    outcome["count"] = len(missed)
                self._socketio.emit("resumed", outcome, to=sid)
            self._socketio.server.enter_room(sid, user_room(user_id))
            return followed.last

    def _missed(self, user_id: str, since: EventId, followed: _Followed) -> list[Event] | None:
        try:
            events = read_after(user_id, since)
        except RedisError:
            return None
        if events is None or followed.last is None:
            return events
        # What is newer than the gateway's own place in the log will come to this socket live.
        return [event for event in events if event.id.seq <= followed.last.seq]

    def follow(self, user_id: str) -> _Followed:
        """Read a user's events for one more socket."""
        with self._lock:
            followed = self._users.setdefault(user_id, _Followed())
            followed.sockets += 1
            is_new = followed.sockets == 1
            if not self._listens:
                # A process without sockets, such as one that only prints its routes, needs no listener.
                self._listens = True
                self._socketio.start_background_task(self._listen)
                self._socketio.start_background_task(self._beat)
        if is_new:
            self._synchronize(user_id)
        return followed

    def unfollow(self, user_id: str) -> None:
        """One socket fewer wants a user's events."""
        with self._lock:
            followed = self._users[user_id]
            followed.sockets -= 1
            if followed.sockets:
                return
            del self._users[user_id]
        self._synchronize(user_id)

    def _synchronize(self, user_id: str) -> None:
        """Subscribe to a user or not, by what holds when the command is sent: two of them may have crossed."""
        with self._command_lock:
            pubsub = self._pubsub
            if pubsub is None:
                # Away: the reconnection subscribes to all who are followed then.
                return
            try:
                if user_id in self._users:
                    pubsub.subscribe(channel_of(user_id))
                else:
                    pubsub.unsubscribe(channel_of(user_id))  # type: ignore[no-untyped-call]  # redis-py's own gap
            except (RedisError, OSError) as error:
                log.warning("gateway_command_failed", user_id=user_id, error=str(error))

    def _beat(self) -> None:
        while True:
            self._socketio.sleep(HEARTBEAT_SECONDS)
            try:
                self._redis.publish(self._own_channel, b"")
            except (RedisError, OSError):
                continue

    def _listen(self) -> None:
        with self._app.app_context():
            while True:
                try:
                    self._listen_once()
                except (RedisError, OSError) as error:
                    log.warning("gateway_disconnected", error=str(error))
                except Exception:
                    # A fault in one event must not silence the node.
                    log.exception("gateway_failed")
                self._pubsub = None
                self._socketio.sleep(RECONNECT_SECONDS)

    def _listen_once(self) -> None:
        pubsub: PubSub = self._redis.pubsub()  # type: ignore[no-untyped-call]  # redis-py has no types there
        try:
            with self._lock:
                users = list(self._users)
                for followed in self._users.values():
                    followed.ready.clear()
                self._pubsub = pubsub
            pubsub.subscribe(self._own_channel, *[channel_of(user_id) for user_id in users])
            self._heard_at = time.monotonic()
            while time.monotonic() - self._heard_at < DEAF_AFTER_SECONDS:
                message = pubsub.get_message(timeout=HEARTBEAT_SECONDS)
                if message is not None:
                    self._hear(message)
            log.warning("gateway_deaf")
        finally:
            pubsub.close()

    def _hear(self, message: dict[str, Any]) -> None:
        self._heard_at = time.monotonic()
        channel = message["channel"].decode()
        user_id = channel.rpartition(":")[2]
        followed = self._users.get(user_id)
        if channel == self._own_channel or followed is None:
            return
        if message["type"] == "subscribe":
            self._begin(user_id, followed)
        elif message["type"] == "message":
            self._deliver(user_id, followed, parse_message(message["data"]))

    def _begin(self, user_id: str, followed: _Followed) -> None:
        """The subscription stands: from here on nothing is missed; what was missed before it is read."""
        with followed.lock:
            if followed.last is not None:
                self._catch_up(user_id, followed)
            else:
                followed.last = head(user_id)
                if followed.has_begun and followed.last is not None:
                    # The log was empty, or away, when the sockets joined: something has come to it since.
                    self._socketio.emit("resumed", {"recovered": False}, to=user_room(user_id))
            followed.has_begun = True
            followed.ready.set()

    def _deliver(self, user_id: str, followed: _Followed, event: Event) -> None:
        with followed.lock:
            last = followed.last
            if last is None:
                follows = event.id.seq == 1
            elif event.id.epoch == last.epoch:
                if event.id.seq <= last.seq:
                    return
                follows = event.id.seq == last.seq + 1
            else:
                follows = False
            if follows:
                followed.last = event.id
                self._speak(event)
            else:
                self._catch_up(user_id, followed)

    def _catch_up(self, user_id: str, followed: _Followed) -> None:
        events = None if followed.last is None else read_after(user_id, followed.last)
        if events is None:
            followed.last = head(user_id)
            self._socketio.emit("resumed", {"recovered": False}, to=user_room(user_id))
            return
        for event in events:
            followed.last = event.id
            self._speak(event)

    def _speak(self, event: Event, only_to: str | None = None) -> None:
        for message in messages(event.entry):
            to_owner = message.room.startswith("user:")
            if only_to is not None:
                # A replay is for the user's room: job rooms are joined anew, with the job as it is now.
                if not to_owner:
                    continue
            elif not self._has_listeners(message.room):
                continue
            # A number counts in its owner's log; in a job's room others listen too, with logs of their own.
            data = {**message.data, "eventId": str(event.id)} if to_owner else message.data
            self._socketio.emit(message.name, data, to=only_to or message.room)

    def _has_listeners(self, room: str) -> bool:
        rooms = self._socketio.server.manager.rooms.get("/", {})
        return bool(rooms.get(room))
