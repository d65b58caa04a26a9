"""A whole platform under test, and the people who use it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import requests

from devstack.programs import carillon
from devstack.settings import StackSettings
from devstack.stack import Stack
from tests.acceptance.records import Records
from tests.acceptance.sockets import Socket
from tests.acceptance.streams import EventStream
from tests.acceptance.waiting import until

PASSWORD = "correct horse battery"
REQUEST_SECONDS = 20
_PRINTED_PASSWORD = re.compile(r"password (\S+) \(shown only now\)")


@dataclass(frozen=True)
class Person:
    """A user who has logged in at a web node."""

    url: str
    id: str
    username: str
    token: str
    _session: requests.Session = field(default_factory=requests.Session, repr=False)

    @classmethod
    def log_in(cls, url: str, username: str, password: str) -> Self:
        """The user, with an access token."""
        body = {"username": username, "password": password}
        answer = requests.post(f"{url}/api/auth/login", json=body, timeout=REQUEST_SECONDS)
        assert answer.status_code == 200, f"{username} could not log in: {answer.status_code} {answer.text}"
        session = answer.json()
        return cls(url, session["user"]["id"], username, session["accessToken"])

    @property
    def email(self) -> str:
        """The address that was given at registration."""
        return address_of(self.username)

    def again(self) -> Person:
        """The same user on a connection of its own, for another thread."""
        return Person(self.url, self.id, self.username, self.token)

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        """Any request, in this user's name."""
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        return self._session.request(method, self.url + path, headers=headers, timeout=REQUEST_SECONDS, **options)

    def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """The JSON of an answer that must have this status."""
        __tracebackhide__ = True
        answer = self.send(method, path, json=body)
        assert answer.status_code == status, f"{method} {path} answered {answer.status_code}: {answer.text}"
        return answer.json() if answer.content else None

    def get(self, path: str) -> Any:
        """The JSON of an answer to GET."""
        __tracebackhide__ = True
        return self.ask("GET", path)

    def submit(self, type_: str = "demo-steps", payload: Any = None, **options: Any) -> str:
        """Submit a job; its id."""
        __tracebackhide__ = True
        body = {"type": type_, "payload": payload or {"steps": 1}, "options": options}
        return str(self.ask("POST", "/api/jobs", body, 202)["id"])

    def submit_many(self, count: int, payload: Any = None, **options: Any) -> list[str]:
        """Submit as many jobs; their ids."""
        return [self.submit(payload=payload, **options) for _ in range(count)]

    def job(self, job_id: str) -> Any:
        """A job as polling shows it."""
        __tracebackhide__ = True
        return self.get(f"/api/jobs/{job_id}")

    def await_status(self, job_id: str, *statuses: str, seconds: float = 20.0) -> Any:
        """The job once it has one of the statuses."""
        __tracebackhide__ = True
        seen: list[Any] = [None]

        def reached() -> bool:
            seen[0] = self.job(job_id)
            return seen[0]["status"] in statuses

        until(reached, lambda: f"job {job_id} {' or '.join(statuses)}; it is {seen[0]}", seconds)
        return seen[0]

    def add_webhook(self, url: str, event_type: str = "completed") -> Any:
        """Register an endpoint."""
        return self.ask("POST", "/api/webhooks", {"url": url, "eventType": event_type}, 201)

    def socket(self, namespace: str = "/", url: str | None = None, **options: Any) -> Socket:
        """A connected socket of this user; `url`: by another way than to the user's web node."""
        return Socket(url or self.url, f"the Python client of {self.username}", namespace).connect(
            self.token, **options
        )

    def stream(
        self, path: str = "/api/events", url: str | None = None, last_event_id: str | None = None
    ) -> EventStream:
        """An open stream of this user."""
        return EventStream(url or self.url, path, self.token, last_event_id).connect()


class Platform:
    """A stack that was started as `make run` starts one, with the administrator it announced."""

    def __init__(self, var_folder: Path, **environment: str) -> None:
        # The receivers and databases of these tests are on this machine.
        allowed = {"WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8", "CONNECTION_ALLOW_NETWORKS": "127.0.0.0/8"}
        self.stack = Stack(StackSettings.for_tests(var_folder, **allowed, **environment))
        self.announcement = ""

    def __enter__(self) -> Self:
        try:
            self.stack.start_servers()
            self.stack.run(carillon("migrate"))
            self.announcement = self.stack.run(carillon("bootstrap"))
            self.stack.start_processes()
            self.stack.wait_until_healthy()
        except BaseException:
            self.stack.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.stop()

    @property
    def url(self) -> str:
        """The web process."""
        return self.stack.url

    @property
    def records(self) -> Records:
        """The database."""
        return Records(self.stack.database_url)

    def administrator(self) -> Person:
        """Whoever logs in with what was printed at the first start."""
        return Person.log_in(self.url, "admin", printed_password(self.announcement))

    def newcomer(self) -> Person:
        """Somebody who has just registered."""
        username = f"user-{secrets.token_hex(6)}"
        body = {"username": username, "email": address_of(username), "password": PASSWORD}
        answer = requests.post(f"{self.url}/api/auth/register", json=body, timeout=REQUEST_SECONDS)
        assert answer.status_code == 201, f"registration answered {answer.status_code}: {answer.text}"
        return Person.log_in(self.url, username, PASSWORD)

    def operator(self) -> Person:
        """An operator of the newcomers' organization."""
        person = self.newcomer()
        path = f"/api/admin/users/{person.id}"
        self.administrator().ask("PATCH", path, {"roles": ["operator", "user"]})
        # Roles travel in the token.
        return Person.log_in(self.url, person.username, PASSWORD)

    def stranger(self) -> Person:
        """The administrator of another organization."""
        name = f"tenant-{secrets.token_hex(6)}"
        said = self.stack.run(carillon("create-organization", name, "--admin", name, "--email", address_of(name)))
        return Person.log_in(self.url, name, printed_password(said))

    def mend(self) -> None:
        """Start again what does not run, and wait until all answer."""
        stack = self.stack
        for server in (stack.postgres, stack.redis):
            assert server
            server.start()
        for process in stack.processes:
            if process.program.essential and not process.running:
                process.kill()
                process.start()
        stack.wait_until_healthy()

    def logs(self) -> Iterable[tuple[str, str]]:
        """The end of every process's log, for a test that failed."""
        return [(process.name, process.log_tail(40)) for process in self.stack.processes]


def address_of(username: str) -> str:
    """The e-mail address of whoever is made here."""
    return f"{username}@example.com"


def printed_password(said: str) -> str:
    """The password in what a command of the console script printed."""
    found = _PRINTED_PASSWORD.search(said)
    assert found, f"no password was printed: {said!r}"
    return found[1]
