"""What a client may send: so many messages a second, and no words of the protocol's own."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import structlog
from flask_socketio import SocketIO

log = structlog.get_logger(__name__)

# Answered with `rate_limited` beyond this, and cut beyond the second bound.
EVENTS_AT_ONCE = 100.0
EVENTS_A_SECOND = 20.0
MESSAGES_AT_ONCE = 1_500.0
MESSAGES_A_SECOND = 50.0

# The server hands an event that is named so to the handler of the real thing, and with it a client could change who it
# is, or be forgotten by whoever watches its token.
RESERVED_EVENTS = frozenset({"connect", "disconnect", "connect_error", "message", "*"})


@dataclass
class Allowance:
    """What may still come at once; it comes back at a steady rate."""

    most: float
    a_second: float
    left: float = field(init=False)
    refilled_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.left = self.most

    def spend(self) -> bool:
        """Whether one more may come."""
        now = time.monotonic()
        self.left = min(self.most, self.left + (now - self.refilled_at) * self.a_second)
        self.refilled_at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


def guard_messages(socketio: SocketIO) -> None:
    """Look at each message before the server does; who floods is disconnected, whatever it is that he sends."""
    server: Any = socketio.server
    allowances: dict[str, Allowance] = {}
    handle_message, handle_disconnect, handle_event = (
        server._handle_eio_message,
        server._handle_eio_disconnect,
        server._handle_event,
    )

    def message(eio_sid: str, data: Any) -> None:
        allowance = allowances.get(eio_sid)
        if allowance is None:
            allowance = allowances[eio_sid] = Allowance(MESSAGES_AT_ONCE, MESSAGES_A_SECOND)
        if allowance.spend():
            handle_message(eio_sid, data)
        else:
            log.warning("socket_cut", reason="flood")
            server.eio.disconnect(eio_sid)

    def disconnect(eio_sid: str, reason: Any) -> None:
        allowances.pop(eio_sid, None)
        handle_disconnect(eio_sid, reason)

    def event(eio_sid: str, namespace: str, id: Any, data: Any) -> None:
        if isinstance(data, list) and data and isinstance(data[0], str) and data[0] not in RESERVED_EVENTS:
            handle_event(eio_sid, namespace, id, data)

    server.eio.on("message", message)
    server.eio.on("disconnect", disconnect)
    server._handle_event = event
