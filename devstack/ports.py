"""TCP ports: a free one, and who holds one that is not."""

from __future__ import annotations

import errno
import socket
from contextlib import closing
from pathlib import Path

import psutil

from devstack.errors import StackError


def free_port() -> int:
    """Return a loopback port that nothing listens on at this moment."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def check_ports(ports: dict[str, int]) -> None:
    """Raise `StackError` if one of the ports, keyed by the variable that sets it, cannot be listened on."""
    by_port: dict[int, str] = {}
    for variable, port in ports.items():
        if not 1 <= port <= 65535:
            raise StackError(f"{variable}={port} is not a port: choose a number from 1 to 65535.")
        if port in by_port:
            raise StackError(f"{by_port[port]} and {variable} are both {port}: change one of the two.")
        by_port[port] = variable
    for variable, port in ports.items():
        _check_port(variable, port)


def _check_port(variable: str, port: int) -> None:
    reason = _why_not(port)
    if reason == errno.EACCES:
        raise StackError(
            f"Port {port} may be opened by the administrator only: set {variable} to a number above 1023, "
            f"for example {variable}={port + 8000 if port < 1024 else port + 1}."
        )
    if reason:
        raise StackError(
            f"Port {port} is already in use{_holder(port)}: stop that, or choose another port, "
            f"for example {variable}={_next_free(port)}."
        )


def _why_not(port: int) -> int | None:
    """Return the error number that keeps a server from this port, None if the port is free."""
    with closing(socket.socket()) as client:
        # Some systems let one bind 127.0.0.1 beside a server on 0.0.0.0, so binding alone proves too little.
        client.settimeout(1)
        if client.connect_ex(("127.0.0.1", port)) == 0:
            return errno.EADDRINUSE
    for address in ("127.0.0.1", ""):
        with closing(socket.socket()) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                server.bind((address, port))
            except OSError as error:
                return error.errno
    return None


def _next_free(port: int) -> int:
    return next((other for other in range(port + 1, 65536) if _why_not(other) is None), free_port())


def _holder(port: int) -> str:
    """Describe the process that listens on the port, or return an empty string."""
    try:
        owners = [
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        ]
        process = psutil.Process(next(pid for pid in owners if pid))
        command = " ".join(process.cmdline()[:3]) or process.name()
        return f" by `{_shortened(command)}` (process {process.pid})"
    except (psutil.Error, StopIteration):
        if port == 5000 and Path("/System/Library/CoreServices/ControlCenter.app").exists():
            return " (on macOS usually by the AirPlay Receiver)"
        return ""


def _shortened(command: str, length: int = 60) -> str:
    return command if len(command) <= length else f"{command[: length - 1]}…"
