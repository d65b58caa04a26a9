"""What a client may send: so many packets a second, and no words of the protocol's own."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import structlog
from engineio.exceptions import SocketIsClosedError
from engineio.packet import MESSAGE
from flask_socketio import SocketIO

log = structlog.get_logger(__name__)

# Answered with `rate_limited` beyond this, and cut beyond the second bound.
EVENTS_AT_ONCE = 100.0
EVENTS_A_SECOND = 20.0
PACKETS_AT_ONCE = 1_500.0
PACKETS_A_SECOND = 50.0
# Who connects to a namespace may be told a whole log. There are three of them.
CONNECTS_AT_ONCE = 12.0
CONNECTS_A_SECOND = 0.2

# The server hands an event that is named so to the handler of the real thing, and with it a client could change who it
# is, or be forgotten by whoever watches its token.
RESERVED_EVENTS = frozenset({"connect", "disconnect", "connect_error", "message", "*"})


@dataclass(slots=True)
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
    """Look at each packet before the server does; who floods is disconnected, whatever it is that he sends."""
    server: Any = socketio.server
    handle_connect, handle_event = server._handle_eio_connect, server._handle_event

    def connect(eio_sid: str, environ: Any) -> Any:
        _guard(server.eio.sockets[eio_sid])
        return handle_connect(eio_sid, environ)

    def event(eio_sid: str, namespace: str, id: Any, data: Any) -> None:
        if isinstance(data, list) and data and isinstance(data[0], str) and data[0] not in RESERVED_EVENTS:
            handle_event(eio_sid, namespace, id, data)

    server.eio.on("connect", connect)
    server._handle_event = event


def _guard(client: Any) -> None:
    packets = Allowance(PACKETS_AT_ONCE, PACKETS_A_SECOND)
    connects = Allowance(CONNECTS_AT_ONCE, CONNECTS_A_SECOND)
    receive = client.receive

    def guarded(packet: Any) -> None:
        if packets.spend() and (not _is_connect(packet) or connects.spend()):
            receive(packet)
            return
        log.warning("socket_cut", reason="flood")
        # Without waiting for him to read what he was sent.
        client.close(wait=False, abort=True)
        raise SocketIsClosedError

    # Here and not at the messages: there are packets below them, which the server takes without a word.
    client.receive = guarded


def _is_connect(packet: Any) -> bool:
    return packet.packet_type == MESSAGE and isinstance(packet.data, str) and packet.data.startswith("0")
