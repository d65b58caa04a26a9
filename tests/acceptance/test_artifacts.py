"""Artifacts from the job that leaves them to whoever fetches them, and large ones beside everybody else's requests."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
import requests

from tests.acceptance.answers import assert_error
from tests.acceptance.platform import Person, Platform
from tests.acceptance.waiting import until

pytestmark = pytest.mark.xdist_group("platform")

MEGABYTE = 1024 * 1024


def leave(person: Person, size: int) -> Any:
    """A job of a person leaves a file of so many bytes; as the list shows it."""
    job_id = person.submit(payload={"steps": 1, "artifactBytes": size})
    person.await_status(job_id, "completed")
    (artifact,) = person.get(f"/api/jobs/{job_id}/artifacts")["data"]
    return artifact


def file_of(platform: Platform, artifact: Any) -> Path:
    """Where a file lies."""
    (row,) = platform.records.rows("SELECT * FROM artifacts WHERE id = %s", artifact["id"])
    folder = platform.stack.settings.var_folder / "artifacts"
    return folder / row["organization_id"] / row["job_id"] / artifact["id"]


def test_a_job_leaves_a_file_and_its_owner_fetches_it_in_parts(platform: Platform) -> None:
    person = platform.newcomer()
    size = 3 * MEGABYTE + 1
    artifact = leave(person, size)
    assert (artifact["name"], artifact["size"], artifact["attempt"]) == ("demo.bin", size, 1)
    url = artifact["downloadUrl"]
    whole = person.send("GET", url)
    assert whole.status_code == 200
    assert hashlib.sha256(whole.content).hexdigest() == artifact["sha256"]
    assert whole.headers["Content-Disposition"].startswith('attachment; filename="demo.bin"')
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    first = person.send("GET", url, headers={"Range": f"bytes=0-{MEGABYTE - 1}"})
    rest = person.send("GET", url, headers={"Range": f"bytes={MEGABYTE}-", "If-Range": first.headers["ETag"]})
    assert (first.status_code, rest.status_code) == (206, 206)
    assert first.content + rest.content == whole.content
    head = person.send("HEAD", url)
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, str(size), b"")
    refused = person.send("GET", url, headers={"Range": f"bytes={size}-"})
    assert_error(refused, 416, "range_not_satisfiable")
    assert refused.headers["Content-Range"] == f"bytes */{size}"


def test_nobody_else_fetches_it_and_its_owner_deletes_it(platform: Platform) -> None:
    person = platform.newcomer()
    artifact = leave(person, 10)
    url = artifact["downloadUrl"]
    file = file_of(platform, artifact)
    assert_error(requests.get(platform.url + url, timeout=10), 401)
    assert_error(platform.newcomer().send("GET", url), 403)
    assert_error(platform.stranger().send("GET", url), 404, "job_not_found")
    operator = platform.operator()
    assert operator.send("GET", url).status_code == 200
    assert_error(operator.send("DELETE", url), 403)
    assert file.exists()
    person.ask("DELETE", url, status=204)
    assert_error(person.send("GET", url), 404, "artifact_not_found")
    assert not file.exists()


def test_a_file_that_vanished_answers_410(platform: Platform) -> None:
    person = platform.newcomer()
    artifact = leave(person, 10)
    file_of(platform, artifact).unlink()
    assert_error(person.send("GET", artifact["downloadUrl"]), 410, "artifact_gone")


def test_a_file_that_is_too_large_fails_its_job_for_good(platform: Platform) -> None:
    person = platform.newcomer()
    job_id = person.submit(payload={"steps": 1, "artifactBytes": 100 * MEGABYTE + 1})
    job = person.await_status(job_id, "failed", "completed")
    assert (job["status"], job["error"]["code"], job["attempt"]) == ("failed", "artifact_too_large", 1)
    assert person.get(f"/api/jobs/{job_id}/artifacts") == {"data": []}
    (row,) = platform.records.rows("SELECT organization_id FROM jobs WHERE id = %s", job_id)
    assert not (platform.stack.settings.var_folder / "artifacts" / row["organization_id"] / job_id).exists()


def test_the_tick_removes_what_has_expired(platform: Platform) -> None:
    person = platform.newcomer()
    artifact = leave(person, 10)
    file = file_of(platform, artifact)
    platform.records.rows("UPDATE artifacts SET expires_at = now() - interval '1 s' WHERE id = %s", artifact["id"])
    assert_error(person.send("GET", artifact["downloadUrl"]), 410, "artifact_expired")
    celery = (sys.executable, "-m", "celery", "-A", "tasks:celery_app", "--quiet")
    platform.stack.run((*celery, "call", "tasks.housekeeping.prune", "--queue", "housekeeping"))
    until(lambda: not file.exists(), "the end of the file")
    assert_error(person.send("GET", artifact["downloadUrl"]), 404, "artifact_not_found")


@dataclass
class Watch:
    """Looks at a web process while it sends: how much memory it holds, and how soon it answers others."""

    url: str
    pid: int
    memory: list[int] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=look, daemon=True) for look in (self._weigh, self._ask)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def growth(self) -> int:
        """Bytes that it held at most beyond those at the beginning."""
        return max(self.memory) - self.memory[0]

    def _weigh(self) -> None:
        process = psutil.Process(self.pid)
        while True:
            self.memory.append(process.memory_info().rss)
            if self._ended.wait(0.01):
                return

    def _ask(self) -> None:
        with requests.Session() as session:
            while not self._ended.wait(0.02):
                begins = time.monotonic()
                assert session.get(f"{self.url}/api/health/live", timeout=20).status_code == 200
                self.answers.append(time.monotonic() - begins)


@pytest.fixture(params=["eventlet", "threading"])
def node(request: pytest.FixtureRequest, platform: Platform) -> tuple[str, int]:
    """A web node of each mode: its address and its process."""
    if request.param == "eventlet":
        return platform.url, platform.stack.process("web").pid
    url = request.getfixturevalue("threading_node")
    return url, platform.stack.process("web-threading").pid


@pytest.fixture
def large(platform: Platform) -> Iterator[tuple[Person, str, int]]:
    """A file of 200 MB that somebody has: its owner, path and size."""
    person = platform.newcomer()
    artifact = leave(person, 10)
    file = file_of(platform, artifact)
    size = 200 * MEGABYTE
    # A file full of nothing, which takes neither the time to be made nor the room.
    os.truncate(file, size)
    platform.records.rows("UPDATE artifacts SET size = %s WHERE id = %s", size, artifact["id"])
    yield person, artifact["downloadUrl"], size
    person.ask("DELETE", artifact["downloadUrl"], status=204)


def test_a_large_download_is_neither_held_in_memory_nor_in_anybodys_way(
    node: tuple[str, int], large: tuple[Person, str, int]
) -> None:
    url, pid = node
    person, path, size = large
    headers = {"Authorization": f"Bearer {person.token}"}
    # Whatever is loaded with the first download has been loaded.
    requests.get(url + path, headers={**headers, "Range": "bytes=0-0"}, timeout=20).raise_for_status()
    received = 0
    with Watch(url, pid) as watch, requests.get(url + path, headers=headers, stream=True, timeout=20) as answer:
        pieces = answer.iter_content(MEGABYTE)
        received += len(next(pieces))
        # Nobody takes what the process could read ahead.
        time.sleep(1)
        received += sum(len(piece) for piece in pieces)
    assert received == size
    assert watch.growth < 40 * MEGABYTE, f"{watch.growth / MEGABYTE:.0f} MB more"
    answers = sorted(watch.answers)
    assert len(answers) > 10
    assert answers[len(answers) // 2] < 0.25, answers
    assert answers[-1] < 2, answers


def test_a_client_that_goes_away_leaves_no_open_file(node: tuple[str, int], large: tuple[Person, str, int]) -> None:
    url, pid = node
    person, path, _ = large
    process = psutil.Process(pid)
    name = path.rpartition("/")[2]

    def open_files() -> list[str]:
        return [file.path for file in process.open_files() if name in file.path]

    for _ in range(3):
        answer = requests.get(url + path, headers={"Authorization": f"Bearer {person.token}"}, stream=True, timeout=20)
        next(answer.iter_content(MEGABYTE))
        assert open_files()
        answer.close()
    until(lambda: not open_files(), lambda: f"the end of {open_files()}")
