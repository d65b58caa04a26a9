"""The platform under measurement: its servers and processes, one user, one endpoint, and what SQL knows of a round."""

from __future__ import annotations

import http.client
import json
import secrets
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import psycopg2
import redis

from bench.cpu import Part
from devstack.processes import Process, Program
from devstack.programs import carillon
from devstack.settings import StackSettings
from devstack.stack import Stack

# As celeryconfig.py sets it.
BROKER_PREFIX = "carillon:broker:"
# Flower hears nothing of what is measured: workers send it events only when they are told to.
PROCESSES = ("web", "worker", "delivery", "beat")


@dataclass(frozen=True)
class WorkerSide:
    """What SQL knows of the jobs of a round."""

    completed: int
    seconds: float
    notifications: int
    delivered: int


class Platform:
    """A durable platform as `make run` starts it, with its data in `folder`; a `with` block leaves nothing behind."""

    def __init__(self, folder: Path, concurrency: int) -> None:
        settings = StackSettings.for_tests(
            folder,
            concurrency=concurrency,
            WEBHOOK_ALLOW_NETWORKS="127.0.0.0/8",
            # The run is longer than a token lives.
            ACCESS_TOKEN_SECONDS="7200",
            # The work that others were measured with has no mails.
            EMAIL_NOTIFICATIONS_ENABLED="false",
            LOG_LEVEL="warning",
        )
        self.stack = Stack(replace(settings, durable=True))
        self.username = ""
        self.token = ""
        self._bare: Process | None = None

    def __enter__(self) -> Self:
        self.stack.start(PROCESSES)
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.stop()

    @property
    def address(self) -> dict[str, Any]:
        """Where the web process is, and the user's token, for the bench's own processes."""
        return {"host": "127.0.0.1", "port": self.stack.settings.port, "token": self.token}

    def make_user(self, webhook_url: str) -> None:
        """Make the user whose jobs these are: in-app notifications only, one endpoint for completed jobs."""
        name, password = f"bench{secrets.token_hex(4)}", secrets.token_urlsafe(16)
        self.username = name
        self._ask(
            "POST",
            "/api/auth/register",
            {"username": name, "email": f"{name}@example.com", "password": password},
        )
        self.token = self._log_in(name, password)
        for preference in self._ask("GET", "/api/notifications/preferences")["data"]:
            if preference["channel"] != "in_app":
                self._ask("PATCH", f"/api/notifications/preferences/{preference['id']}", {"enabled": False})
        self._ask("POST", "/api/webhooks", {"url": webhook_url, "eventType": "completed"})

    def make_operator(self) -> str:
        """Make an operator of the user's tenant; the token."""
        command = carillon("create-user", "operator", "--email", "operator@example.com", "--role", "operator")
        # It is said once: the word after "password".
        password = self.stack.run(command).partition(" password ")[2].split(" ", 1)[0]
        return self._log_in("operator", password)

    def stop_worker(self) -> None:
        """Let jobs queue up."""
        self.stack.process("worker").stop()

    def start_worker(self) -> None:
        """Let the queued jobs run."""
        self.stack.process("worker").start()

    def wait_for_first_job(self, timeout: float) -> None:
        """Return when the broker holds fewer messages for jobs than it does now."""
        assert self.stack.redis
        ends = time.monotonic() + timeout
        with redis.Redis.from_url(self.stack.redis.url) as client:
            # One list a priority.
            lists = list(client.scan_iter(f"{BROKER_PREFIX}default*", count=1000))

            def depth() -> int:
                pipeline = client.pipeline(transaction=False)
                for name in lists:
                    pipeline.llen(name)
                return sum(pipeline.execute())

            before = depth()
            while depth() == before and time.monotonic() < ends:
                time.sleep(0.005)

    def queue_bare_tasks(self, count: int) -> float:
        """Queue tasks of bare Celery; return the seconds it took."""
        answer = self.stack.run((sys.executable, "-m", "bench.bare", str(count)))
        return float(json.loads(answer)["seconds"])

    def start_bare_worker(self) -> Process:
        """Start bare Celery's worker; one that was stopped is started anew."""
        if self._bare is None:
            celery = (sys.executable, "-m", "celery", "-A", "bench.bare:app", "worker", "-P", "prefork")
            options = ("-c", str(self.stack.settings.concurrency), "-n", "bare@%h", "--without-gossip")
            self._bare = self.stack.add(Program("bare", (*celery, *options, "--without-mingle")))
        else:
            self._bare.start()
        return self._bare

    @property
    def groups(self) -> dict[str, tuple[int, Part]]:
        """The platform's processes as the meter wants them."""
        pids = {process.name: process.pid for process in self.stack.processes}
        assert self.stack.postgres
        assert self.stack.redis
        return {
            "web": (pids["web"], "all"),
            "worker, parent": (pids["worker"], "itself"),
            "worker, children": (pids["worker"], "below"),
            "delivery": (pids["delivery"], "all"),
            "beat": (pids["beat"], "all"),
            "PostgreSQL": (self.stack.postgres.pid, "all"),
            "Redis": (self.stack.redis.pid, "all"),
        }

    def worker_side(self, first: str, last: str) -> WorkerSide:
        """What became of the jobs from the first id to the last: UUIDv7, so of one round."""
        rows = self._rows(
            """
            SELECT count(*) FILTER (WHERE status = 'completed'),
                coalesce(extract(epoch FROM max(completed_at) - min(started_at)), 0)
            FROM jobs WHERE id BETWEEN %(first)s AND %(last)s
            """,
            first,
            last,
        )
        notifications = self._rows(
            "SELECT count(*) FROM notifications AS told JOIN jobs ON told.data->>'jobId' = jobs.id::text "
            # Written after the first of them was made: among a million of others those are few.
            "WHERE jobs.id BETWEEN %(first)s AND %(last)s AND told.id >= %(first)s",
            first,
            last,
        )
        delivered = self._rows(
            "SELECT count(*) FROM webhook_deliveries WHERE status = 'delivered' "
            "AND job_id BETWEEN %(first)s AND %(last)s",
            first,
            last,
        )
        return WorkerSide(rows[0][0], float(rows[0][1]), notifications[0][0], delivered[0][0])

    def durability(self) -> dict[str, str]:
        """The settings of PostgreSQL that decide whether a commit survives a power cut."""
        names = ("fsync", "synchronous_commit", "full_page_writes", "server_version")
        return {name: self._rows(f"SHOW {name}")[0][0] for name in names}

    def _rows(self, statement: str, first: str = "", last: str = "") -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self.stack.database_url)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, {"first": first, "last": last})
                return list(cursor.fetchall())
        finally:
            connection.close()

    def _log_in(self, username: str, password: str) -> str:
        token: str = self._ask("POST", "/api/auth/login", {"username": username, "password": password})["accessToken"]
        return token

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.stack.settings.port, timeout=30)
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {**headers, "Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path} was answered {response.status}: {answer.decode(errors='replace')}")
        document: dict[str, Any] = json.loads(answer)
        return document
