"""What receivers do with a request, well or badly, and the POST that meets it."""

import select
import socket
import time
from collections.abc import Callable
from typing import Any

from service.webhooks.sender import OutboundRequest, Sender, SendOutcome


def post(sender: Sender, url: str, body: bytes = b"{}", **headers: str) -> SendOutcome:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return sender.send(OutboundRequest(url, body, {"Content-Type": "application/json", **named}))


def answer(status: str = "200 OK", body: bytes = b"{}", headers: str = "") -> Callable[..., bool]:
    """A script that gives the same whole answer to every request and keeps the connection."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode("latin-1")

    def script(connection: socket.socket, received: object) -> bool:
        connection.sendall(head + body)
        return True

    return script


def raw(*parts: bytes, wait: float = 0.0) -> Callable[..., bool]:
    """A script that sends these bytes, waiting between them, and closes."""

    def script(connection: socket.socket, received: object) -> bool:
        for part in parts:
            connection.sendall(part)
            time.sleep(wait)
        return False

    return script


def drip(before: bytes, byte: bytes) -> Callable[..., bool]:
    """A script that goes on and on, always in time for a timeout that counts from the last byte."""

    def script(connection: socket.socket, received: object) -> bool:
        connection.sendall(before)
        while True:
            connection.sendall(byte)
            time.sleep(0.02)

    return script


def tunnel(connection: socket.socket, received: Any) -> bool:
    """A script of a proxy: connects to where it is asked to and carries bytes both ways until one side ends."""
    host, _, port = received.start.split(" ")[1].rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port))) as onward:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        other = {connection: onward, onward: connection}
        while True:
            ready = [end for end in other if getattr(end, "pending", int)()]
            for end in ready or select.select(list(other), [], [])[0]:
                data = end.recv(65536)
                if not data:
                    return False
                other[end].sendall(data)


def hang(connection: socket.socket, received: object) -> bool:
    connection.recv(1)
    return False
