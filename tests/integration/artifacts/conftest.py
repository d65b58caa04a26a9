"""Running jobs that leave artifacts, without Celery."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask

from service.artifacts.actions import leave_artifact
from service.artifacts.models import Artifact
from service.artifacts.sources import Source
from service.events import JobRow
from service.jobs.submission import Submission, submit_job
from tests.conftest import Account, MakeUser
from tests.factories.jobs import start


class RunningJob:
    """An attempt of a demo job that leaves artifacts when it is told to."""

    def __init__(self, app: Flask, row: JobRow, owner: Account) -> None:
        self._app = app
        self.row = row
        self.owner = owner

    @property
    def id(self) -> UUID:
        """The id of the job."""
        return UUID(str(self.row["id"]))

    @property
    def url(self) -> str:
        """Where its artifacts are listed."""
        return f"/api/jobs/{self.id}/artifacts"

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        root = self._app.extensions["carillon_settings"].artifacts_url.removeprefix("file://")
        return Path(root) / str(self.owner.organization_id) / str(self.id)

    def files(self) -> list[str]:
        """The names of the files that lie there."""
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.exists() else []

    def leave(self, name: str, source: Source, **options: Any) -> Artifact:
        """Leave an artifact as a worker does."""
        given = {"content_type": None, "expires_in": None, "go_on": lambda: None, "keep_trying": lambda write: write()}
        with self._app.app_context():
            return leave_artifact(self.row, name, source, **{**given, **options})


@pytest.fixture
def run(app: Flask, make_user: MakeUser) -> Callable[..., RunningJob]:
    """Submits and starts a demo job, of a new user where none is given."""

    def begin(owner: Account | None = None) -> RunningJob:
        owner = owner or make_user()
        with app.app_context():
            submission = Submission(type="demo-steps", payload={"steps": 1})
            job = submit_job(submission, organization_id=owner.organization_id, user_id=owner.id).row
            row = start(UUID(str(job["id"])))
        assert row is not None
        return RunningJob(app, row, owner)

    return begin


@pytest.fixture
def job(run: Callable[..., RunningJob]) -> RunningJob:
    """A running job of a new user."""
    return run()
