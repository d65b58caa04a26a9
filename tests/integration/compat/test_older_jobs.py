"""`/jobs` as the clients of S0 know it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.compat.schemas import ListedJobSchema, PolledJobSchema
from service.compat.words import PHASE_OF, STAGE_OF, STATE_OF
from service.jobs import lifecycle
from service.jobs.actions import cancel_job
from service.jobs.sealing import seal
from service.jobs.states import STATUSES
from service.jobs.submission import Submission, submit_job
from tests.conftest import Account, MakeUser
from tests.factories import confidential
from tests.factories.jobs import run_a_job, start


def submit(client: FlaskClient, user: Account, **options: Any) -> str:
    """A demo job; its id."""
    body = {"type": "demo-steps", "payload": {"steps": 2}, "options": options}
    answer = client.post("/api/jobs", json=body, headers=user.headers)
    assert answer.status_code == 202, answer.json
    return str(answer.get_json()["id"])


def milliseconds(moment: str) -> int:
    """A time of the contract as S0 writes it."""
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


def test_every_status_has_a_word_in_each_vocabulary() -> None:
    assert set(STATE_OF) == set(PHASE_OF) == set(STATUSES)
    assert set(STAGE_OF) == set(PHASE_OF.values())


def test_a_completed_job_is_polled_in_the_older_shape(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    job_id = run_a_job(app, user)
    job = client.get(f"/api/jobs/{job_id}", headers=user.headers).get_json()
    polled = client.get(f"/jobs/{job_id}", headers=user.headers)
    assert polled.status_code == 200
    assert polled.get_json() == {
        "id": str(job_id),
        "name": job["name"],
        "state": "completed",
        "progress": 100,
        "result": {"steps": 1},
        "failedReason": None,
        "timestamp": {
            "created": milliseconds(job["createdAt"]),
            "started": milliseconds(job["startedAt"]),
            "finished": milliseconds(job["completedAt"]),
        },
    }
    assert set(polled.get_json()) == set(PolledJobSchema().fields), "what is sent is documented"


def test_a_job_that_waits_has_neither_times_nor_progress(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    polled = client.get(f"/jobs/{submit(client, user)}", headers=user.headers).get_json()
    assert (polled["state"], polled["progress"], polled["result"], polled["failedReason"]) == ("waiting", 0, None, None)
    assert polled["timestamp"].pop("created") > 0
    assert polled["timestamp"] == {"started": None, "finished": None}


def test_a_failed_and_a_cancelled_job_end_the_polling(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    failed, cancelled, without_reason = (submit(client, user, retryLimit=0) for _ in range(3))
    with app.app_context():
        start(UUID(failed))
        error = {"code": "boom", "message": "It broke.", "retryable": True}
        lifecycle.fail_job(UUID(failed), 1, error)
        cancel_job(UUID(without_reason))
    client.delete(f"/api/jobs/{cancelled}", json={"reason": "no longer needed"}, headers=user.headers)
    for job_id, reason in (
        (failed, "It broke."),
        (cancelled, "no longer needed"),
        (without_reason, "Job cancelled"),
    ):
        polled = client.get(f"/jobs/{job_id}", headers=user.headers).get_json()
        assert (polled["state"], polled["failedReason"]) == ("failed", reason)
        assert polled["timestamp"]["finished"] >= polled["timestamp"]["created"]


def test_the_list_has_the_older_pages_and_states(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    completed = str(run_a_job(app, user))
    waiting = submit(client, user)
    blocked = submit(client, user, dependsOn=[waiting])
    delayed = submit(client, user, delay=3600)
    cancelled = submit(client, user)
    client.delete(f"/api/jobs/{cancelled}", headers=user.headers)

    def listed(query: str = "") -> tuple[list[str], Any]:
        answer = client.get(f"/jobs{query}", headers=user.headers)
        assert answer.status_code == 200, answer.get_json()
        page = answer.get_json()
        assert all(set(job) == set(ListedJobSchema().fields) for job in page["jobs"])
        assert set(page) == {"jobs", "pagination"}
        return [job["id"] for job in page["jobs"]], page["pagination"]

    everything = [cancelled, delayed, blocked, waiting, completed]
    assert listed() == (everything, {"total": 5, "page": 1, "limit": 10, "pages": 1})
    assert listed("?page=2&limit=2") == (everything[2:4], {"total": 5, "page": 2, "limit": 2, "pages": 3})
    assert listed("?limit=5000")[1]["limit"] == 100
    assert listed("?status=")[0] == everything
    for state, expected in {
        "waiting": [blocked, waiting],
        "delayed": [delayed],
        "completed": [completed],
        "failed": [cancelled],
        "active": [],
    }.items():
        assert listed(f"?status={state}")[0] == expected, state
        jobs = client.get(f"/jobs?status={state}", headers=user.headers).get_json()["jobs"]
        assert {job["state"] for job in jobs} <= {state}


@pytest.mark.parametrize("query", ["?status=paused", "?page=0", "?limit=-1", "?page=two"])
def test_a_wrong_argument_is_named(client: FlaskClient, make_user: MakeUser, query: str) -> None:
    refused = client.get(f"/jobs{query}", headers=make_user().headers)
    assert (refused.status_code, refused.get_json()["code"]) == (422, "validation_failed")
    assert list(refused.get_json()["errors"]) == [query[1:].partition("=")[0]]


def test_the_list_is_of_ones_own_jobs_and_others_are_refused(client: FlaskClient, make_user: MakeUser) -> None:
    owner = make_user()
    colleague = make_user(organization=owner.organization_id)
    operator = make_user(("operator",), organization=owner.organization_id)
    stranger = make_user(("admin",))
    job_id = submit(client, owner)
    for who, status, code in ((colleague, 403, "not_allowed"), (stranger, 404, "job_not_found")):
        refused = client.get(f"/jobs/{job_id}", headers=who.headers)
        assert (refused.status_code, refused.get_json()["code"]) == (status, code)
    assert client.get(f"/jobs/{job_id}", headers=operator.headers).status_code == 200
    for who in (colleague, operator, stranger):
        assert client.get("/jobs", headers=who.headers).get_json()["jobs"] == []


def test_a_sensitive_result_is_for_its_owner(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    owner = make_user()
    operator = make_user(("operator",), organization=owner.organization_id)
    with app.app_context():
        submission = Submission(type=confidential.NAME, payload={"secret": "s"})
        row = submit_job(submission, organization_id=owner.organization_id, user_id=owner.id).row
        job_id = UUID(str(row["id"]))
        start(job_id)
        lifecycle.complete_job(job_id, 1, seal({"echo": "s"}, owner.id))
    for path in (f"/jobs/{job_id}", f"/analyze/jobs/{job_id}"):
        assert client.get(path, headers=owner.headers).get_json()["result"] == {"echo": "s"}
        assert client.get(path, headers=operator.headers).get_json()["result"] is None
    listed = client.get(f"/analyze/jobs/user/{owner.id}", headers=owner.headers).get_json()["jobs"]
    assert [job["result"] for job in listed] == [None]
