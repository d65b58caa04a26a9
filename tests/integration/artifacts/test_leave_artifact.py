"""What a job leaves: complete, once, and not without the attempt that left it."""

from __future__ import annotations

import hashlib
import io
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, select, update

from service.artifacts.actions import remove_unlisted
from service.artifacts.errors import ArtifactTooLarge, InvalidArtifact, StorageFull, TooManyArtifacts
from service.artifacts.models import Artifact, UnlistedFile
from service.clock import utcnow
from service.database import db, transaction
from service.jobs import lifecycle
from service.jobs.errors import JobCancelled, LeaseLost, PermanentError, WorkerStopping
from service.jobs.models import Job
from tasks.outcome import describe
from tests.factories.jobs import start
from tests.integration.artifacts.conftest import RunningJob


@contextmanager
def settings(app: Flask, **changed: Any) -> Iterator[None]:
    """Other settings for a while."""
    usual = app.extensions["carillon_settings"]
    app.extensions["carillon_settings"] = replace(usual, **changed)
    try:
        yield
    finally:
        app.extensions["carillon_settings"] = usual


def rows(app: Flask, job: RunningJob) -> list[Artifact]:
    with app.app_context():
        return list(db.session.scalars(select(Artifact).where(Artifact.job_id == job.id).order_by(Artifact.id)))


def unlisted(app: Flask, job: RunningJob) -> list[UnlistedFile]:
    with app.app_context():
        return list(db.session.scalars(select(UnlistedFile).where(UnlistedFile.job_id == job.id)))


def assert_nothing_left(app: Flask, job: RunningJob) -> None:
    assert (rows(app, job), unlisted(app, job), job.files()) == ([], [], [])


def test_an_artifact_is_stored_with_its_digest(app: Flask, job: RunningJob, tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    path = tmp_path / "x"
    path.write_bytes(content)
    for name, source in (("bytes", content), ("path", path), ("file", io.BytesIO(content))):
        artifact = job.leave(name, source)
        assert (artifact.size, artifact.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert (job.folder / str(artifact.id)).read_bytes() == content
    assert job.leave("text", "ü").size == 2
    assert [row.name for row in rows(app, job)] == ["bytes", "path", "file", "text"]
    assert unlisted(app, job) == []


def test_an_artifact_is_kept_for_as_long_as_its_job_says(app: Flask, job: RunningJob) -> None:
    for artifact, life in (
        (job.leave("usual", b""), timedelta(days=30)),
        (job.leave("short", b"", expires_in=90), timedelta(seconds=90)),
    ):
        assert abs(artifact.expires_at - utcnow() - life) < timedelta(seconds=10)


def test_the_newer_of_two_with_the_same_name_replaces_the_older(app: Flask, job: RunningJob) -> None:
    job.leave("report", b"old")
    newer = job.leave("report", b"new")
    assert [row.id for row in rows(app, job)] == [newer.id]
    assert job.files() == [str(newer.id)]
    assert unlisted(app, job) == []


def test_each_attempt_has_its_own(app: Flask, job: RunningJob) -> None:
    job.leave("report", b"first")
    with app.app_context():
        lifecycle.fail_job(job.id, 1, {"code": "x", "message": "x", "retryable": True}, retry_in=0)
        lifecycle.release_due()
        row = start(job.id, 2)
    assert row is not None
    RunningJob(app, row, job.owner).leave("report", b"second")
    assert [(each.attempt, each.size) for each in rows(app, job)] == [(1, 5), (2, 6)]


def test_an_attempt_that_was_lost_leaves_nothing(app: Flask, job: RunningJob) -> None:
    with app.app_context():
        lifecycle.lose_attempt(job.id, 1)
    with pytest.raises(LeaseLost):
        job.leave("report", b"too late")
    assert_nothing_left(app, job)


def test_an_attempt_that_is_lost_while_it_writes_leaves_nothing(app: Flask, job: RunningJob) -> None:
    class LosesItsLease:
        left = 3

        def read(self, size: int, /) -> bytes:
            self.left -= 1
            if self.left == 0:
                with app.app_context():
                    lifecycle.lose_attempt(job.id, 1)
            return b"x" if self.left >= 0 else b""

    with pytest.raises(LeaseLost):
        job.leave("report", LosesItsLease())
    assert_nothing_left(app, job)


def test_a_cancelled_job_stops_in_the_middle_of_a_file(app: Flask, job: RunningJob) -> None:
    class Endless:
        pieces = 0

        def read(self, size: int, /) -> bytes:
            self.pieces += 1
            return bytes(1000)

    source = Endless()

    def go_on() -> None:
        if source.pieces == 5:
            raise JobCancelled

    with pytest.raises(JobCancelled):
        job.leave("report", source, go_on=go_on)
    assert_nothing_left(app, job)


def test_a_file_that_is_too_large_fails_the_job_for_good(app: Flask, job: RunningJob) -> None:
    with settings(app, max_artifact_bytes=2_000_000):
        job.leave("most", bytes(2_000_000))
        with pytest.raises(ArtifactTooLarge) as raised:
            job.leave("more", io.BytesIO(bytes(2_000_001)))
    assert describe(raised.value, ()) == {
        "code": "artifact_too_large",
        "message": "The artifact more is larger than 2000000 bytes.",
        "retryable": False,
    }
    assert [row.name for row in rows(app, job)] == ["most"]
    assert len(job.files()) == 1
    assert unlisted(app, job) == []


def test_an_attempt_leaves_so_many_and_may_replace_them(app: Flask, job: RunningJob) -> None:
    with settings(app, max_artifacts_per_job=2):
        job.leave("1", b"")
        job.leave("2", b"")
        job.leave("2", b"anew")
        with pytest.raises(TooManyArtifacts) as raised:
            job.leave("3", b"")
    assert describe(raised.value, ())["code"] == "too_many_artifacts"
    assert len(job.files()) == 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("", {}),
        (" ", {}),
        ("x" * 256, {}),
        ("a\r\nb", {}),
        ("a\x00b", {}),
        ("a\ud800", {}),
        ("a", {"content_type": "text/html\r\nX: y"}),
        ("a", {"content_type": "text"}),
        ("a", {"expires_in": 0}),
        ("a", {"expires_in": float("nan")}),
        ("a", {"expires_in": 1e18}),
    ],
)
def test_what_no_artifact_can_be_is_refused(app: Flask, job: RunningJob, name: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArtifact) as raised:
        job.leave(name, b"", **options)
    assert isinstance(raised.value, PermanentError)
    assert_nothing_left(app, job)


def test_a_source_that_cannot_be_read_leaves_nothing(app: Flask, job: RunningJob, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        job.leave("report", tmp_path / "nothing")
    assert_nothing_left(app, job)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_tried_again_and_leaves_nothing(app: Flask, job: RunningJob, small_disk: Path) -> None:
    with settings(app, artifacts_url=f"file://{small_disk}"):
        job.leave("fits", bytes(600_000))
        with pytest.raises(StorageFull) as raised:
            job.leave("does not fit", bytes(600_000))
        assert len(job.files()) == 1
        # The room is there again.
        assert job.leave("fits too", bytes(300_000)).size == 300_000
    assert describe(raised.value, ()) == {
        "code": "storage_full",
        "message": "The storage of artifacts has no room left.",
        "retryable": True,
    }
    assert unlisted(app, job) == []


DIES = """
import os, signal, sys
from uuid import UUID
from service import create_app
from service.artifacts.actions import leave_artifact
from service.settings import Settings

class Source:
    begun = False
    def read(self, size, /):
        if self.begun:
            os.kill(os.getpid(), signal.SIGKILL)
        self.begun = True
        return bytes(1024 * 1024)

organization, job = sys.argv[1:]
row = {"id": job, "organization_id": organization, "attempt": 1}
with create_app(Settings.from_env(), serves=False).app_context():
    leave_artifact(row, "report", Source(), content_type=None, expires_in=None, go_on=lambda: None,
        keep_trying=lambda write: write())
"""


@pytest.fixture
def died(job: RunningJob) -> RunningJob:
    """A job whose process was killed in the middle of a file."""
    command = [sys.executable, "-c", DIES, str(job.owner.organization_id), str(job.id)]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    return job


def sweep(app: Flask) -> None:
    after: UUID | None = UUID(int=0)
    with app.app_context():
        while after is not None:
            _, after = remove_unlisted(after)


def age(app: Flask, job: RunningJob, hours: float) -> None:
    with app.app_context(), transaction() as session:
        session.execute(
            update(UnlistedFile).where(UnlistedFile.job_id == job.id).values(noted_at=utcnow() - timedelta(hours=hours))
        )


def test_a_killed_process_leaves_half_a_file_that_nobody_sees_and_that_goes_later(
    app: Flask, client: FlaskClient, died: RunningJob
) -> None:
    assert client.get(died.url, headers=died.owner.headers).json == {"data": []}
    assert [Path(name).suffix for name in died.files()] == [".part"]
    age(app, died, 2)
    sweep(app)
    # The attempt may still be about to go on: its lease has not run out.
    assert len(died.files()) == 1
    with app.app_context():
        lifecycle.lose_attempt(died.id, 1)
    age(app, died, 0.5)
    sweep(app)
    assert len(died.files()) == 1
    age(app, died, 2)
    sweep(app)
    assert_nothing_left(app, died)


def test_a_process_that_dies_before_the_row_is_written_leaves_a_file_that_goes_later(
    app: Flask, job: RunningJob
) -> None:
    artifact = job.leave("report", b"content")
    with app.app_context(), transaction() as session:
        # As it was before the last step.
        session.execute(delete(Artifact).where(Artifact.id == artifact.id))
        session.execute(update(UnlistedFile).where(UnlistedFile.id == artifact.id).values(attempt=1))
    age(app, job, 2)
    with app.app_context():
        lifecycle.complete_job(job.id, 1, None)
    sweep(app)
    assert_nothing_left(app, job)


def test_a_file_goes_however_its_row_went(app: Flask, job: RunningJob) -> None:
    job.leave("report", b"content")
    with app.app_context():
        lifecycle.complete_job(job.id, 1, None)
        with transaction() as session:
            session.execute(delete(Job).where(Job.id == job.id))
    assert len(job.files()) == 1
    sweep(app)
    assert_nothing_left(app, job)


def test_a_storage_that_is_away_keeps_its_files_for_a_later_sweep(app: Flask, job: RunningJob) -> None:
    artifact = job.leave("report", b"content")
    stubborn = job.folder / str(artifact.id)
    stubborn.unlink()
    # A folder cannot be removed as a file.
    stubborn.mkdir()
    with app.app_context(), transaction() as session:
        session.execute(delete(Artifact).where(Artifact.id == artifact.id))
    sweep(app)
    assert [each.id for each in unlisted(app, job)] == [artifact.id]
    stubborn.rmdir()
    sweep(app)
    assert_nothing_left(app, job)


def test_an_attempt_that_is_stopped_right_after_its_row_was_written_leaves_nothing(app: Flask, job: RunningJob) -> None:
    calls: list[str] = []

    def stopped_at_the_end(write: Callable[[], Any]) -> Any:
        calls.append("written")
        written = write()
        if len(calls) == 2:
            raise WorkerStopping
        return written

    with pytest.raises(WorkerStopping):
        job.leave("report", b"content", keep_trying=stopped_at_the_end)
    assert_nothing_left(app, job)


def test_the_database_may_be_away_for_a_moment_when_the_file_is_complete(app: Flask, job: RunningJob) -> None:
    calls: list[str] = []

    def twice(write: Callable[[], Any]) -> Any:
        """As if the answer to the commit had been lost on the way."""
        calls.append("written")
        write()
        return write()

    artifact = job.leave("report", b"content", keep_trying=twice)
    assert calls == ["written", "written"]
    assert [row.id for row in rows(app, job)] == [artifact.id]
    assert job.files() == [str(artifact.id)]
    assert unlisted(app, job) == []
