"""Many connected clients of one web process, each told something once a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import uuid4

import jwt
import psutil

from bench.children import Child
from bench.crowd import CONNECT_SECONDS
from bench.platform import Platform

SETTLE_SECONDS = 2.0
MARGIN_SECONDS = 20.0
TOKEN_SECONDS = 7_200
# What a round takes on a machine of two cores: in any case, while something is told, and for each client.
START_SECONDS, TELL_SECONDS, CLIENT_SECONDS = 12.0, 10.0, 0.006


@dataclass(frozen=True)
class Audience:
    """So many sockets, of as many users: what they cost idle, and how late they hear."""

    clients: int
    seconds_to_connect: float
    kib_per_socket: float
    # Of one core: while nothing is told, and while it is.
    idle_cores: float
    busy_cores: float
    told: int
    # From before the publisher's call to the client's read, sorted.
    milliseconds: list[float]


def expected_seconds(clients: int) -> float:
    """How long a round with so many clients takes."""
    return START_SECONDS + TELL_SECONDS + clients * CLIENT_SECONDS


def run_audience(platform: Platform, clients: int) -> Audience:
    """Connect so many clients and tell each of them something once a second for some seconds."""
    users = [str(uuid4()) for _ in range(clients)]
    web = psutil.Process(platform.stack.process("web").pid)
    before = web.memory_info().rss
    with ExitStack() as stack:
        tokens = [_token(platform, user) for user in users]
        crowd = stack.enter_context(Child("crowd", patience=CONNECT_SECONDS, address=platform.address, tokens=tokens))
        crier = stack.enter_context(
            Child("town_crier", platform.stack.environment, patience=MARGIN_SECONDS, users=users)
        )
        time.sleep(SETTLE_SECONDS)
        memory = web.memory_info().rss - before
        idle = _cores(web, lambda: time.sleep(SETTLE_SECONDS))
        told: list[int] = []

        def tell() -> None:
            told.append(crier.ask({"seconds": TELL_SECONDS}, TELL_SECONDS + MARGIN_SECONDS)["told"])

        busy = _cores(web, tell)
        time.sleep(SETTLE_SECONDS)
        delays = crowd.ask({}, MARGIN_SECONDS)["delays"]
        return Audience(
            clients,
            crowd.hello["seconds"],
            memory / clients / 1024,
            idle,
            busy,
            told[0],
            [delay * 1000 for delay in delays],
        )


def _token(platform: Platform, user_id: str) -> str:
    """What a log-in would give: as many of them would take longer than all the rest."""
    now = int(time.time())
    claims = {"iss": "carillon", "sub": user_id, "org": str(uuid4()), "name": "one of many", "roles": ["user"]}
    secret = platform.stack.environment["SECRET_KEY"]
    return jwt.encode({**claims, "iat": now, "exp": now + TOKEN_SECONDS}, secret, algorithm="HS256")


def _cores(process: psutil.Process, during: Callable[[], None]) -> float:
    began, before = time.monotonic(), process.cpu_times()
    during()
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / (time.monotonic() - began)
