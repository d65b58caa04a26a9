"""The numbered event log, and the sockets and streams that speak from it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import structlog
from flask import Flask, current_app
from flask_socketio import SocketIO

from service.settings import Settings

if TYPE_CHECKING:
    from service.realtime.gateway import Gateway
    from service.realtime.sessions import Sessions

log = structlog.get_logger(__name__)

MAXIMUM_MESSAGE_BYTES = 65_536
SWEEP_SECONDS = 1.0


@dataclass(frozen=True)
class Realtime:
    """The socket server of a web process, and the gateway it speaks from."""

    socketio: SocketIO
    gateway: Gateway

    @property
    def connected(self) -> int:
        """How many clients have a socket, whatever number of namespaces each uses."""
        return len(cast(Any, self.socketio.server).eio.sockets)

    def hang_up(self) -> None:
        """End all streams and sockets of a process that stops; their clients come back to another one."""
        self.gateway.end_streams()
        for client in list(cast(Any, self.socketio.server).eio.sockets.values()):
            # Without waiting for those who do not read what was sent to them, and without a farewell, after which some
            # clients would not come back by themselves.
            client.close(wait=False, abort=True)


def serve_sockets(app: Flask, settings: Settings) -> None:
    """Give the application its socket server and its gateway to the event log."""
    from service.realtime.flood import guard_messages
    from service.realtime.gateway import Gateway
    from service.realtime.namespaces import DefaultNamespace, NotificationsNamespace, QueueNamespace
    from service.realtime.pings import share_pings

    socketio = SocketIO(
        app,
        async_mode=settings.async_mode,
        cors_allowed_origins=list(settings.cors_origins) or None,
        ping_interval=settings.ping_interval / 1000,
        ping_timeout=settings.ping_timeout / 1000,
        max_http_buffer_size=MAXIMUM_MESSAGE_BYTES,
        # One event of a socket after the other: many at once would pass its limits side by side.
        async_handlers=False,
    )
    guard_messages(socketio)
    share_pings(socketio)
    gateway = Gateway(app, socketio, settings.redis_url)
    app.extensions["carillon_realtime"] = Realtime(socketio, gateway)
    namespaces: list[Sessions] = []

    @cache
    def watch() -> None:
        # With the first client: a process that only prints its routes, say, has none.
        socketio.start_background_task(_sweep, socketio, namespaces)

    for kind in (DefaultNamespace, QueueNamespace, NotificationsNamespace):
        namespace = kind(socketio, gateway, watch)
        namespace.register()
        namespaces.append(namespace)


def _sweep(socketio: SocketIO, namespaces: list[Sessions]) -> None:
    while True:
        socketio.sleep(SWEEP_SECONDS)
        for namespace in namespaces:
            try:
                namespace.sweep(time.time())
            except Exception:
                # Tokens must go on running out.
                log.exception("sweep_failed")


def realtime() -> Realtime:
    """The socket server of the application at hand."""
    return cast(Realtime, current_app.extensions["carillon_realtime"])
