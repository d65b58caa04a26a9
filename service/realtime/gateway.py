"""The gateway of a web node: reads the event log of the users connected here and speaks to their sockets and streams.

Each user's events reach the local listeners in order and once. The Redis channel is only a wake-up with the event on
it: a number that does not follow the last one sends the gateway to the log, and what the log cannot tell is admitted
with `resumed {recovered: false}`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from flask import Flask
from flask_socketio import SocketIO
from redis import Redis
from redis.client import PubSub
from redis.exceptions import RedisError

from service.errors import RateLimited
from service.ids import new_id
from service.queues.statistics import STATS_CHANNEL
from service.realtime.log import Event, EventId, channel_of, head, notice_restart, parse_message, read_after
from service.realtime.stream import COMMENT_SECONDS, LOST, Stream, Wanted, recovered
from service.realtime.vocabulary import DEFAULT, NAMESPACES, job_room, numbered, to_job_room, user_room

log = structlog.get_logger(__name__)

# The gateway hears itself this often; after three silences it takes its connection for deaf.
HEARTBEAT_SECONDS = 2.0
DEAF_AFTER_SECONDS = 3 * HEARTBEAT_SECONDS
RECONNECT_SECONDS = 0.5
# A connecting socket waits so long for its user to be followed; after that it is told that nothing was recovered.
FOLLOW_SECONDS = 3.0
# Of a user on one node.
MAXIMUM_STREAMS = 100
# Who runs the installation hears how the queues stand.
OPERATORS_ROOM = "operators"


class _Followed:
    """A user with listeners on this node: how many, and the last event they were sent."""

    def __init__(self) -> None:
        self.listeners = 0
        self.streams: set[Stream] = set()
        self.last: EventId | None = None
        # The newest count of unread notifications: news of two transactions may come in the other order.
        self.inbox: dict[str, int] | None = None
        # Whether `last` was looked up: an unknown place in the log is not an empty log.
        self.has_begun = False
        self.lock = threading.RLock()
        self.ready = threading.Event()

    def count(self, event: Event) -> None:
        """Have an event tell the newest count where it comes later than the one after it."""
        told = event.entry.get("inbox")
        if told is None:
            return
        if self.inbox is None or told["version"] >= self.inbox["version"]:
            self.inbox = told
        else:
            event.entry["inbox"] = self.inbox


class Gateway:
    """Follows users, speaks to rooms and streams."""

    def __init__(self, app: Flask, socketio: SocketIO, redis_url: str) -> None:
        self._app = app
        self._socketio = socketio
        self._server: Any = socketio.server
        self._redis = Redis.from_url(redis_url, socket_connect_timeout=2, socket_timeout=5, protocol=2)
        self._own_channel = f"carillon:gateway:{new_id()}"
        self._users: dict[str, _Followed] = {}
        self._lock = threading.Lock()
        self._command_lock = threading.Lock()
        self._pubsub: PubSub | None = None
        self._heard_at = time.monotonic()
        self._listens = False
        self._stats: dict[str, Any] | None = None

    # Listeners

    def join(
        self, namespace: str, sid: str, user_id: str, last_event_id: EventId | None, *, resumes: bool
    ) -> EventId | None:
        """Let a socket hear a user's events, after those it missed since `last_event_id` where it `resumes`.

        Returns the number of the last event it has now, None where the log is empty or away.
        """
        with self._joining(user_id) as (followed, is_ready):
            missed = self._missed(user_id, last_event_id, followed) if is_ready and last_event_id else None
            # For the user's room: job rooms are joined anew, with the job as it is now.
            count = sum(self._emit(sid, namespace, event, last_event_id) for event in missed or ())
            if resumes:
                outcome = LOST if missed is None else recovered(count)
                self._server.emit("resumed", outcome, to=sid, namespace=namespace)
            self._server.enter_room(sid, user_room(user_id), namespace=namespace)
            return followed.last

    def open_stream(self, wanted: Wanted, last_event_id: EventId | None, *, resumes: bool) -> Stream:
        """A stream of a user's events, which begins with those missed since `last_event_id` where it `resumes`.

        Raises RateLimited for a user with too many of them.
        """
        with self._joining(wanted.user_id) as (followed, is_ready):
            if len(followed.streams) >= MAXIMUM_STREAMS:
                raise RateLimited(f"You have {MAXIMUM_STREAMS} streams open.", retry_after=int(COMMENT_SECONDS))
            missed = self._missed(wanted.user_id, last_event_id, followed) if is_ready and last_event_id else None
            stream = Stream(wanted, last_event_id, followed.last)
            if resumes:
                stream.resume(missed)
            followed.streams.add(stream)
            return stream

    def close_stream(self, stream: Stream) -> None:
        """Nobody reads a stream any more."""
        user_id = stream.wanted.user_id
        followed = self._users.get(user_id)
        if followed is not None and stream in followed.streams:
            followed.streams.discard(stream)
            self.unfollow(user_id)

    def end_streams(self) -> None:
        """Have every reader come back later, to this node or another one."""
        for followed in list(self._users.values()):
            for stream in list(followed.streams):
                stream.end()

    @contextmanager
    def _joining(self, user_id: str) -> Iterator[tuple[_Followed, bool]]:
        followed = self.follow(user_id)
        try:
            is_ready = followed.ready.wait(FOLLOW_SECONDS)
            with followed.lock:
                followed.has_begun = True
                yield followed, is_ready
        except BaseException:
            self.unfollow(user_id)
            raise

    def _missed(self, user_id: str, since: EventId, followed: _Followed) -> list[Event] | None:
        try:
            events = read_after(user_id, since)
        except RedisError:
            return None
        if events is None or followed.last is None:
            return events
        # What is newer than the gateway's own place in the log will come to this listener live.
        return [event for event in events if event.id.seq <= followed.last.seq]

    def follow(self, user_id: str) -> _Followed:
        """Read a user's events for one more listener."""
        with self._lock:
            followed = self._users.setdefault(user_id, _Followed())
            followed.listeners += 1
            is_new = followed.listeners == 1
            if not self._listens:
                # A process without listeners, such as one that only prints its routes, needs no connection.
                self._listens = True
                self._socketio.start_background_task(self._listen)
                self._socketio.start_background_task(self._beat)
        if is_new:
            self._synchronize(user_id)
        return followed

    def unfollow(self, user_id: str) -> None:
        """One listener fewer wants a user's events."""
        with self._lock:
            followed = self._users[user_id]
            followed.listeners -= 1
            if followed.listeners:
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

    def show_stats(self, sid: str) -> None:
        """Let an operator's socket hear how the queues stand, first as they were last measured."""
        self._server.enter_room(sid, OPERATORS_ROOM, namespace=DEFAULT)
        if self._stats is not None:
            self._server.emit("queue:stats", self._stats, to=sid, namespace=DEFAULT)

    # What Redis tells

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
        # Before anybody is told that nothing was missed.
        notice_restart(self._redis)
        pubsub: PubSub = self._redis.pubsub()  # type: ignore[no-untyped-call]  # redis-py has no types there
        try:
            with self._lock:
                users = list(self._users)
                for followed in self._users.values():
                    followed.ready.clear()
                self._pubsub = pubsub
            pubsub.subscribe(self._own_channel, STATS_CHANNEL, *[channel_of(user_id) for user_id in users])
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
        if channel == STATS_CHANNEL:
            if message["type"] == "message":
                self._tell_stats(json.loads(message["data"]))
            return
        user_id = channel.rpartition(":")[2]
        followed = self._users.get(user_id)
        if channel == self._own_channel or followed is None:
            return
        if message["type"] == "subscribe":
            self._begin(user_id, followed)
        elif message["type"] == "message":
            for event in parse_message(message["data"]):
                self._deliver(user_id, followed, event)

    def _tell_stats(self, stats: dict[str, Any]) -> None:
        if stats != self._stats:
            self._stats = stats
            if self._has_listeners(DEFAULT, OPERATORS_ROOM):
                self._server.emit("queue:stats", stats, to=OPERATORS_ROOM, namespace=DEFAULT)

    def _begin(self, user_id: str, followed: _Followed) -> None:
        """The subscription stands: from here on nothing is missed; what was missed before it is read."""
        with followed.lock:
            if followed.last is not None:
                self._catch_up(user_id, followed)
            else:
                followed.last = head(user_id)
                if followed.has_begun and followed.last is not None:
                    # The log was empty, or away, when the listeners joined: something has come to it since.
                    self._admit_loss(user_id, followed)
            followed.has_begun = True
            followed.ready.set()

    def _deliver(self, user_id: str, followed: _Followed, event: Event) -> None:
        with followed.lock:
            last = followed.last or EventId(event.id.epoch, 0)
            if event.id.epoch == last.epoch and event.width and event.id.seq <= last.seq:
                return
            if event.width and event.id.epoch == last.epoch and event.first == last.seq + 1:
                followed.last = event.id
                self._speak(user_id, followed, event)
            else:
                self._catch_up(user_id, followed)

    def _catch_up(self, user_id: str, followed: _Followed) -> None:
        events = None if followed.last is None else read_after(user_id, followed.last)
        if events is None:
            followed.last = head(user_id)
            self._admit_loss(user_id, followed)
            return
        for event in events:
            followed.last = event.id
            self._speak(user_id, followed, event)

    # What listeners hear

    def _admit_loss(self, user_id: str, followed: _Followed) -> None:
        for namespace in NAMESPACES:
            self._server.emit("resumed", LOST, to=user_room(user_id), namespace=namespace)
        for stream in followed.streams:
            stream.put(LOST)

    def _speak(self, user_id: str, followed: _Followed, event: Event) -> None:
        followed.count(event)
        room = user_room(user_id)
        for namespace in NAMESPACES:
            if self._has_listeners(namespace, room):
                self._emit(room, namespace, event, None)
        for stream in followed.streams:
            stream.put(event)
        job = event.entry.get("job")
        if job is not None and self._has_listeners(DEFAULT, job_room(job["id"])):
            message = to_job_room(event.entry)
            if message is not None:
                # Without a number: others listen too, with logs of their own.
                self._server.emit(message.name, message.data, to=job_room(job["id"]), namespace=DEFAULT)

    def _emit(self, to: str, namespace: str, event: Event, last: EventId | None) -> int:
        """Tell what is newer than `last` of an event; how many messages that is."""
        count = 0
        for number, message in numbered(namespace, event.entry, event.id.seq):
            if last is None or number > last.seq:
                data = {**message.data, "eventId": f"{event.id.epoch}-{number}"}
                self._server.emit(message.name, data, to=to, namespace=namespace)
                count += 1
        return count

    def _has_listeners(self, namespace: str, room: str) -> bool:
        return bool(self._server.manager.rooms.get(namespace, {}).get(room))
