"""What a dashboard reads, one request at a time over a kept connection: how long each takes."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.history import COMMON_TAG, COMMON_WORD, DAYS, RARE_TAG, RARE_WORD
from bench.load import Connection
from bench.platform import Platform
from service.ids import first_id_at

REQUESTS = 120
# A slow list is read less often.
SECONDS = 2.0
# Plans and caches are not made for a single request.
UNTIMED = 3

# The guarantee for lists of jobs (docs: guarantees, "Speed"), milliseconds.
LIST_BAR = 50.0


@dataclass(frozen=True)
class Reading:
    """Milliseconds of each request for one path, sorted."""

    what: str
    path: str
    milliseconds: list[float]
    # Whether it is one of the lists that have a bar.
    has_bar: bool


def _jobs(what: str, arguments: str = "") -> tuple[str, str, bool]:
    return f"jobs, {what}", f"/api/jobs?limit=20{arguments}", True


def _paths(deep: str, job_id: str) -> list[tuple[str, str, bool]]:
    return [
        _jobs("first page"),
        _jobs("page 500 by number", "&page=500"),
        _jobs(f"after a cursor {DAYS - 5} days back", f"&cursor={deep}"),
        _jobs("`status`: failed", "&status=failed"),
        _jobs("`status`: active, none is", "&status=active"),
        _jobs("`type` of more than half", "&type=demo-steps"),
        _jobs("`type` of one in 10,000", "&type=job-actions"),
        _jobs("`tag` of every seventh", f"&tag={COMMON_TAG}"),
        _jobs("`tag` of one in 10,000", f"&tag={RARE_TAG}"),
        _jobs("`q`, a word in every fifth name", f"&q={COMMON_WORD}"),
        _jobs("`q`, a word in one of 20,000 names", f"&q={RARE_WORD}"),
        ("one job", f"/api/jobs/{job_id}", False),
        ("dead letters", "/api/dead-letters?limit=20", True),
        ("dead letters, grouped", "/api/dead-letters?group=true&limit=20", False),
        ("notifications", "/api/notifications?limit=20", False),
    ]


# An operator sees the jobs of the whole tenant.
_OPERATORS_PATHS = [
    ("jobs of the tenant, first page", "/api/jobs?limit=20", True),
    ("jobs of the tenant, `status`: failed", "/api/jobs?limit=20&status=failed", True),
    ("jobs of the tenant, `type` of one in 10,000", "/api/jobs?limit=20&type=job-actions", True),
]


def read_all(platform: Platform, operator_token: str) -> list[Reading]:
    """Time every list for the bench's user, and some for an operator of its tenant."""
    user = Reader(platform, platform.token)
    deep = first_id_at(datetime.now(UTC) - timedelta(days=DAYS - 5))
    job_id = user.get("/api/jobs?limit=100")["data"][-1]["id"]
    readings = [user.time(*each) for each in _paths(str(deep), job_id)]
    operator = Reader(platform, operator_token)
    return readings + [operator.time(*each) for each in _OPERATORS_PATHS]


class Reader:
    """One connection of one user."""

    def __init__(self, platform: Platform, token: str) -> None:
        address = platform.address
        self._connection = Connection((address["host"], address["port"]))
        self._head = f"HTTP/1.1\r\nHost: {address['host']}:{address['port']}\r\nAuthorization: Bearer {token}\r\n\r\n"

    def get(self, path: str) -> dict[str, Any]:
        """The document at a path; RuntimeError where there is none."""
        self._connection.send(f"GET {path} {self._head}".encode())
        while (answer := self._connection.receive()) is None:
            continue
        status, body = answer
        if status != 200:
            raise RuntimeError(f"GET {path} was answered {status}: {body.decode(errors='replace')}")
        document: dict[str, Any] = json.loads(body)
        return document

    def time(self, what: str, path: str, has_bar: bool) -> Reading:
        """Read a path again and again."""
        for _ in range(UNTIMED):
            self.get(path)
        milliseconds: list[float] = []
        ends = time.monotonic() + SECONDS
        while len(milliseconds) < REQUESTS and time.monotonic() < ends:
            began = time.perf_counter()
            self.get(path)
            milliseconds.append((time.perf_counter() - began) * 1000)
        return Reading(what, path, sorted(milliseconds), has_bar)
