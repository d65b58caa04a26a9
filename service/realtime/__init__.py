"""The numbered event log and the sockets that speak from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

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
    )
    gateway = Gateway(app, socketio, settings.redis_url)
    namespace = DefaultNamespace(app, socketio, gateway)
    app.extensions["carillon_realtime"] = Realtime(socketio, namespace)
    namespace.register()


def realtime() -> Realtime:
    """The socket server of the application at hand."""
    return cast(Realtime, current_app.extensions["carillon_realtime"])
