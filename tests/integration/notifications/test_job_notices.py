"""When a job's owner is told of it: S4's table "When Each Fires" and S1's workflow of a schema rebuild, row by row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from service.database import transaction
from service.events import JobProgressed, publish
from service.jobs import lifecycle, registry
from service.jobs.actions import cancel_job
from service.jobs.registry import Notices
from service.jobs.submission import Submission, submit_job
from service.notifications.preferences import put_default, put_preference
from service.realtime.log import EventId, head, read_after
from service.realtime.vocabulary import QUEUE, numbered
from tests.conftest import Account, MakeUser
from tests.factories.jobs import start

pytestmark = pytest.mark.usefixtures("in_app")

ANALYSIS = Notices(
    started="Analysis Started",
    completed="Analysis Complete!",
    failed="Analysis Failed",
    cancelled="Analysis Cancelled",
    view="View Results",
)
ERROR = {"code": "unavailable", "message": "The video is private", "retryable": False}


@pytest.fixture
def analysis(monkeypatch: pytest.MonkeyPatch) -> str:
    """A type of job that wants said of its jobs what S4 does."""
    kind = replace(registry.get_job_type("demo-steps"), name="test-analysis", notices=ANALYSIS)
    monkeypatch.setitem(registry._types, kind.name, kind)
    return kind.name


@dataclass
class Watched:
    """A job, and what its owner hears of it."""

    client: FlaskClient
    user: Account
    id: UUID
    attempt: int = 1
    # How far the owner's news have been read.
    inbox: int = 0
    log: int = 0

    def notified(self) -> list[dict[str, Any]]:
        """What has come to the inbox since, the oldest first."""
        listed = self.client.get("/api/notifications", headers=self.user.headers).get_json()["data"][::-1]
        new, self.inbox = listed[self.inbox :], len(listed)
        return new

    def updated(self) -> list[dict[str, Any]]:
        """What `queue-update` has said since."""
        newest = head(str(self.user.id))
        assert newest
        events = read_after(str(self.user.id), EventId(newest.epoch, self.log)) or []
        self.log = newest.seq
        return [message.data for event in events for _, message in numbered(QUEUE, event.entry, event.id.seq)]


def submitted(client: FlaskClient, user: Account, kind: str, payload: dict[str, Any]) -> Watched:
    """A job that was just submitted."""
    row = submit_job(Submission(type=kind, payload=payload), organization_id=user.organization_id, user_id=user.id).row
    return Watched(client, user, UUID(str(row["id"])))


def progresses(job: Watched) -> None:
    """A job that runs tells how far it is."""
    publish(
        JobProgressed(
            {"id": job.id, "user_id": job.user.id, "type": "test-analysis", "name": "x", "status": "active"},
            {"current": 1, "total": 5, "percentage": 20},
        )
    )


def starts(job: Watched) -> None:
    assert start(job.id)


def completes(job: Watched) -> None:
    assert lifecycle.complete_job(job.id, 1, {"scenes": 3})


def fails(job: Watched) -> None:
    assert lifecycle.fail_job(job.id, 1, ERROR)


def is_cancelled(job: Watched) -> None:
    cancel_job(job.id, "not needed")


# (Event, what makes it happen, WebSocket Queue Update, Persistent Notification), as S4 has them.
ROWS = {
    "Job Queued": ((), None, "job-queued", None),
    "Job Started": ((), starts, "job-started", "Analysis Started"),
    "Progress": ((starts,), progresses, "job-progress", None),
    "Job Completed": ((starts,), completes, "job-completed", "Analysis Complete!"),
    "Job Failed": ((starts,), fails, "job-failed", "Analysis Failed"),
    "Job Cancelled": ((), is_cancelled, "job-cancelled", "Analysis Cancelled"),
}


@pytest.mark.parametrize("row", ROWS)
def test_when_each_fires(row: str, analysis: str, client: FlaskClient, make_user: MakeUser) -> None:
    before, act, update, title = ROWS[row]
    job = submitted(client, make_user(), analysis, {"steps": 1})
    for earlier in before:
        earlier(job)
    if act is not None:
        job.notified(), job.updated()
        act(job)
    (told,) = job.updated()
    assert told["eventType"] == update
    notified = job.notified()
    assert [each["title"] for each in notified] == ([] if title is None else [title])
    if row == "Job Completed":
        assert told["result"] == {"scenes": 3}
        url = f"{client.application.extensions['carillon_settings'].public_url}/jobs/{job.id}"
        assert notified[0]["actions"] == [{"key": "view", "label": "View Results", "kind": "link", "url": url}]
    elif notified:
        assert notified[0]["actions"] is None
    if row == "Job Failed":
        assert told["error"]["message"] in notified[0]["message"]


def test_a_job_whose_type_says_nothing_has_its_name_and_no_button(client: FlaskClient, make_user: MakeUser) -> None:
    job = submitted(client, make_user(), "demo-steps", {"steps": 1})
    starts(job)
    completes(job)
    kind = registry.get_job_type("demo-steps")
    assert [(each["title"], each["actions"]) for each in job.notified()] == [
        (f"{kind.title} started", None),
        (f"{kind.title} completed", None),
    ]


@pytest.mark.parametrize(
    ("ends", "title", "message"),
    [
        (completes, "Schema rebuild completed successfully", "schema rebuild completed successfully."),
        (fails, "Schema rebuild failed", "schema rebuild failed: the video is private"),
    ],
)
def test_the_workflow_of_a_schema_rebuild(
    ends: Callable[[Watched], None], title: str, message: str, client: FlaskClient, make_user: MakeUser
) -> None:
    user = make_user()
    created = client.post(
        "/api/connections",
        json={"name": "Shop", "url": "postgresql://someone:secret@db.example.com/shop"},
        headers=user.headers,
    )
    assert created.status_code == 201, created.get_json()
    # 1 and 2: the user triggers it, and the job is queued.
    answer = client.post(f"/api/connections/{created.get_json()['id']}/rebuild", json={}, headers=user.headers)
    job = Watched(client, user, UUID(answer.get_json()["jobId"]))
    # 3.
    assert [each["title"] for each in job.notified()] == ["Schema rebuild queued"]
    # 4 and 5: a worker picks it up.
    starts(job)
    assert [each["title"] for each in job.notified()] == ["Schema rebuild started"]
    # 8 and 9.
    ends(job)
    (told,) = job.notified()
    assert (told["title"], told["message"].lower()) == (title, message)


def say_nothing(user: Account) -> None:
    """Leave a user without preferences, as those of before there were any."""
    with transaction() as session:
        session.execute(text("DELETE FROM notification_preferences WHERE user_id = :id"), {"id": user.id})


def test_the_user_is_asked_and_else_the_tenant_and_nobody_where_it_is_critical(
    client: FlaskClient, make_user: MakeUser, change_settings: Callable[..., None]
) -> None:
    def hears(user: Account) -> bool:
        job = submitted(client, user, "demo-steps", {"steps": 1})
        before = len(job.notified())
        starts(job)
        assert len(job.updated()) >= 2, "what is shown live is not muted"
        return before < len(client.get("/api/notifications", headers=user.headers).get_json()["data"])

    user = make_user()
    say_nothing(user)
    assert hears(user), "where nobody says anything"
    put_default(user.organization_id, "job_status", "email", False)
    assert hears(user), "what is said of another channel"
    put_default(make_user().organization_id, "job_status", "in_app", False)
    assert hears(user), "or by another tenant"
    put_default(user.organization_id, "job_status", "in_app", False)
    assert not hears(user)
    put_preference(user.id, "job_status", "in_app", {"enabled": True})
    assert hears(user)
    put_default(user.organization_id, "job_status", "in_app", True)
    put_preference(user.id, "job_status", "in_app", {"enabled": False})
    assert not hears(user)
    change_settings(critical_notification_types=("security", "job_status"))
    assert hears(user)
