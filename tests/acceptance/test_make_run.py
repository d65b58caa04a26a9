"""`make run` as a person types it: a printed password that works, and Ctrl-C that leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from devstack.guard import is_alive
from devstack.ports import free_port
from devstack.postgres import PostgresServer
from devstack.settings import PROJECT_FOLDER
from tests.acceptance.platform import Person, printed_password
from tests.acceptance.records import Records
from tests.acceptance.waiting import until

pytestmark = pytest.mark.xdist_group("make run")

# The whole of a start on a busy machine, with data made durable.
START_SECONDS = 60
# Running jobs have 8 s to finish and workers 15 s to end, then the servers stop.
STOP_SECONDS = 30


class MakeRun:
    """The command behind `make run`, in a terminal of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.var_folder = folder / "var"
        self._log = folder / "terminal.log"
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment |= {
            "PORT": str(self.port),
            "FLOWER_PORT": str(free_port()),
            "MAIL_CATCHER_PORT": str(free_port()),
            "CARILLON_VAR_DIR": str(self.var_folder),
            "CARILLON_ENV": "test",
        }
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "devstack", "up"],
                cwd=PROJECT_FOLDER,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        """What the announcement points to."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        """Everything in the terminal."""
        return self._log.read_text(errors="replace")

    def tail(self) -> str:
        """The last lines in the terminal."""
        return "\n".join(self.said.splitlines()[-40:])

    def wait_until_announced(self) -> None:
        """Return when the platform says that it runs."""
        until(
            lambda: "Carillon is running." in self.said or self.process.poll() is not None,
            lambda: f"the announcement; the terminal says:\n{self.tail()}",
            START_SECONDS,
        )
        assert self.process.poll() is None, self.tail()

    def family(self) -> list[int]:
        """The process ids of everything that runs."""
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]


@pytest.fixture
def make_run(tmp_path: Path) -> Iterator[MakeRun]:
    running = MakeRun(tmp_path)
    try:
        yield running
    finally:
        # Its guard ends whatever it leaves.
        running.process.kill()
        running.process.wait()


def test_the_printed_password_works_and_ctrl_c_ends_jobs_and_processes(make_run: MakeRun) -> None:
    make_run.wait_until_announced()
    assert f"{make_run.url}/" in make_run.said
    person = Person.log_in(make_run.url, "admin", printed_password(make_run.said))
    job_id = person.submit(payload={"steps": 40, "sleepMs": 100})
    person.await_status(job_id, "active")
    asked = requests.post(
        f"{make_run.url}/api/auth/password/forgot", json={"email": person.get("/api/auth/me")["email"]}, timeout=5
    )
    assert asked.status_code == 202
    until(lambda: "Set a new password" in shown_mails(make_run.said), lambda: "the mail with the link", 10)
    family = make_run.family()
    assert len(family) >= len(("PostgreSQL", "Redis", "web", "worker", "delivery", "beat", "Flower"))

    make_run.process.send_signal(signal.SIGINT)
    until(
        lambda: make_run.process.poll() is not None,
        lambda: f"the end of the run after Ctrl-C; the terminal says:\n{make_run.tail()}",
        STOP_SECONDS,
    )
    assert make_run.process.returncode == 0
    until(lambda: not any(is_alive(pid) for pid in family), lambda: f"the end of {alive(family)}", 5)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{make_run.url}/api/health/live", timeout=5)
    with PostgresServer(make_run.var_folder / "postgres") as postgres:
        assert Records(postgres.url).executions(job_id) == [(1, "completed")]
    assert not re.search(r"Traceback \(most recent call last\)", make_run.said), make_run.tail()


def shown_mails(said: str) -> str:
    """What the page of mails shows whose address was printed."""
    page = re.search(r"Mails +(http://127\.0\.0\.1:\S+)", said)
    assert page, said
    return requests.get(page[1], timeout=5).text


def alive(pids: list[int]) -> list[str]:
    return [" ".join(psutil.Process(pid).cmdline()) for pid in pids if is_alive(pid)]
