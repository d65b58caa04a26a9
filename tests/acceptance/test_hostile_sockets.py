"""Sockets that mean harm: events named like the protocol's own, and floods."""

from __future__ import annotations

import json
import time

import pytest
import websocket

from tests.acceptance.platform import Platform

pytestmark = pytest.mark.xdist_group("platform")


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
