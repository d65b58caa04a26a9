"""The log of a job that runs: who follows it need not wait for its end."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from service.jobs.submission import Submission, submit_job
from tasks import lease
from tasks.context import JobContext
from tasks.lease import Attempt
from tests.conftest import MakeUser
from tests.factories.jobs import start

pytestmark = pytest.mark.usefixtures("in_app")


def test_lines_can_be_read_while_the_job_runs(make_user: MakeUser, client: FlaskClient) -> None:
    user = make_user()
    given = Submission(type="demo-steps", payload={"steps": 1})
    job_id = submit_job(given, organization_id=user.organization_id, user_id=user.id).row["id"]
    row = start(UUID(str(job_id)))
    assert row is not None
    attempt = Attempt(row, grace=1.0)
    context = JobContext(attempt, cast(Any, SimpleNamespace(request=SimpleNamespace(id="task"))))

    def lines() -> list[str]:
        answer = client.get(f"/api/jobs/{job_id}/logs", headers=user.headers)
        return [line["message"] for line in answer.get_json()["data"]]

    context.log("one")
    assert lines() == []
    lease._look_after(attempt, time.monotonic())
    assert lines() == ["one"]
    context.log("two")
    context.close()
    lease._look_after(attempt, time.monotonic())
    assert lines() == ["one", "two"], "each once"
