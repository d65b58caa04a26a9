"""The numbered event log and the sockets that speak from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, current_app
from flask_socketio import SocketIO

from service.settings import Settings

if TYPE_CHECKING:
    from service.realtime.namespaces import DefaultNamespace

MAXIMUM_MESSAGE_BYTES = 65_536


@dataclass(frozen=True)
class Realtime:
    """The socket server of a web process."""

    socketio: SocketIO
    namespace: DefaultNamespace


def serve_sockets(app: Flask, settings: Settings) -> None:
    """Give the application its socket server and its gateway to the event log."""
    from service.realtime.gateway import Gateway
    from service.realtime.namespaces import DefaultNamespace

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
    _refuse_reserved_events(socketio)
    gateway = Gateway(app, socketio, settings.redis_url)
    namespace = DefaultNamespace(app, socketio, gateway)
    app.extensions["carillon_realtime"] = Realtime(socketio, namespace)
    namespace.register()


# Words of the protocol's own. The server hands an event that is named so to the handler of the real thing, and with
# it a client could change who it is, or be forgotten by whoever watches its token.
RESERVED_EVENTS = frozenset({"connect", "disconnect", "connect_error", "message", "*"})


def _refuse_reserved_events(socketio: SocketIO) -> None:
    dispatch = socketio.server._handle_event

    def guarded(eio_sid: str, namespace: str, id: Any, data: Any) -> Any:
        if isinstance(data, list) and data and isinstance(data[0], str) and data[0] not in RESERVED_EVENTS:
            return dispatch(eio_sid, namespace, id, data)
        return None

    socketio.server._handle_event = guarded


def realtime() -> Realtime:
    """The socket server of the application at hand."""
    return cast(Realtime, current_app.extensions["carillon_realtime"])
