"""Sockets that mean harm: events named like the protocol's own, and floods."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Self
from uuid import uuid4

import pytest
import websocket

from tests.acceptance.platform import Person, Platform

pytestmark = pytest.mark.xdist_group("platform")

# On a quiet machine it is a fraction of one.
CUT_SECONDS = 10.0


def raw_socket(platform: Platform, token: str) -> websocket.WebSocket:
    """A WebSocket that speaks Socket.IO by hand, connected to the default namespace."""
    address = platform.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
    connection = websocket.create_connection(address, timeout=10)
    assert connection.recv().startswith("0")
    connection.send("40" + json.dumps({"token": token}))
    while not connection.recv().startswith("40"):
        continue
    return connection


def answer_to(connection: websocket.WebSocket, number: int) -> dict[str, object]:
    """The acknowledgement of an event that was sent with this number."""
    while True:
        message = connection.recv()
        if message == "2":
            connection.send("3")
        elif message.startswith(f"43{number}["):
            acknowledged: dict[str, object] = json.loads(message[len(f"43{number}") :])[0]
            return acknowledged


def test_an_event_named_connect_does_not_make_somebody_else(platform: Platform) -> None:
    alice, bob = platform.newcomer(), platform.newcomer()
    job_id = bob.submit(payload={"steps": 1}, delay=600)
    connection = raw_socket(platform, alice.token)
    try:
        for forged in (["connect", 1, {"token": bob.token}], ["disconnect"], [{"a": 1}], []):
            connection.send("42" + json.dumps(forged))
        connection.send("427" + json.dumps(["subscribe:job", job_id]))
        refused = answer_to(connection, 7)
        assert refused["ok"] is False, "the socket is still alice's"
        connection.send("428" + json.dumps(["subscribe:job", 1, 2]))
        assert answer_to(connection, 8)["ok"] is False, "too many arguments are acknowledged too"
    finally:
        connection.close()


def test_a_flood_is_cut_and_hurts_nobody_else(platform: Platform) -> None:
    alice, bob = platform.newcomer(), platform.newcomer()
    connection = raw_socket(platform, alice.token)
    try:
        for number in range(1000):
            connection.send(f"42{number}" + json.dumps(["subscribe:job", "nothing"]))
        began = time.monotonic()
        bob.get("/api/jobs")
        assert time.monotonic() - began < 5
        error = answer_to(connection, 999)["error"]
        assert isinstance(error, dict)
        assert error["code"] == "rate_limited"
    finally:
        connection.close()


def frame(payload: str | bytes, opcode: int = websocket.ABNF.OPCODE_TEXT, final: int = 0x80) -> bytes:
    """A short message as it goes over the wire from a client, masked with noughts."""
    data = payload.encode() if isinstance(payload, str) else payload
    length = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0xFE]) + struct.pack(">H", len(data))
    return bytes([final | opcode]) + length + bytes(4) + data


class Flood:
    """Sends the same frames again and again, as fast as the server takes them, until it hangs up."""

    def __init__(self, platform: Platform, person: Person, frames: bytes, opening: bytes = b"") -> None:
        self._connection = raw_socket(platform, person.token)
        self._connection.sock.sendall(opening)
        self._frames = frames
        self._stops = threading.Event()
        self.cut = threading.Event()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._read)]

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            while not self._stops.is_set():
                self._connection.sock.sendall(self._frames)

    def _read(self) -> None:
        # Somebody who reads: a full line would only slow the flood down.
        with contextlib.suppress(OSError):
            while self._connection.sock.recv(65_536):
                continue
        self.cut.set()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stops.set()
        with contextlib.suppress(OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._connection.close()


def replays(person: Person) -> str:
    """What asks for the whole log of a user, which is long, over and over."""
    with person.socket() as client:
        job_id = person.submit(delay=600)
        client.journal.first("job:created", job_id)
        epoch = str(client.last_event_id).partition("-")[0]
    jobs = [{"type": "demo-steps", "payload": {"steps": 1}, "options": {"delay": 600}}] * 500
    person.ask("POST", "/api/jobs/batch", {"jobs": jobs}, 202)
    return "40/queue," + json.dumps({"token": person.token, "lastEventId": f"{epoch}-1"})


FLOODS: dict[str, Callable[[Person], list[bytes]]] = {
    "events that nobody handles": lambda _: [frame('42["nothing"]')],
    "subscriptions to a million rooms": lambda _: [
        frame("421" + json.dumps(["subscribe:job", str(uuid4())])) for _ in range(200)
    ],
    "packets of an unknown type": lambda _: [frame("9")],
    "upgrades": lambda _: [frame("5")],
    "answers that nobody asked for": lambda _: [frame("3"), frame('431["x"]')],
    "attachments": lambda _: [
        frame('451-["nothing",{"_placeholder":true,"num":0}]'),
        frame(b"x", websocket.ABNF.OPCODE_BINARY),
    ],
    "one message without an end": lambda _: [frame("x" * 1_000, websocket.ABNF.OPCODE_CONT, final=0)],
    "pings below the protocol": lambda _: [frame("", websocket.ABNF.OPCODE_PING)],
    "namespaces that are not": lambda _: [frame("40/nowhere,")],
    "namespaces that want the past": lambda person: [frame(replays(person)), frame("41/queue,")],
}
OPENINGS = {"one message without an end": frame("42", final=0)}


@pytest.mark.parametrize("kind", FLOODS)
def test_whoever_floods_is_cut_and_others_hear_their_events(platform: Platform, kind: str) -> None:
    alice, bob = platform.newcomer(), platform.newcomer()
    frames = FLOODS[kind](alice)
    with bob.socket() as client:
        job_id = bob.submit(payload={"steps": 12, "sleepMs": 120})
        client.journal.first("job:started", job_id)
        together = b"".join(frames * (400 // len(frames)))
        with Flood(platform, alice, together, OPENINGS.get(kind, b"")) as flood:
            assert flood.cut.wait(CUT_SECONDS), "the flood goes on"
        client.journal.first("job:completed", job_id, seconds=10)
        client.journal.assert_complete()
        began = time.monotonic()
        bob.get("/api/jobs")
        assert time.monotonic() - began < 2
