"""A job that is submitted twice: idempotency keys and unique keys, also when many do it at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from werkzeug.test import TestResponse

from service.clock import utcnow
from service.database import db, transaction
from service.jobs import lifecycle
from service.jobs.models import Job
from tests.conftest import Account, MakeUser

DEMO = {"type": "demo-steps", "payload": {"steps": 3}}
SUBMITTERS = 50

Submit = Callable[..., TestResponse]


@pytest.fixture
def submit(client: FlaskClient) -> Submit:
    """Submits a demo job with a unique key."""

    def post(user: Account, mode: str | None = None, steps: int = 3, **unique: Any) -> TestResponse:
        options: dict[str, Any] = {"singletonKey": "report"}
        if mode is not None:
            options["unique"] = {"mode": mode, **unique}
        body = {"type": "demo-steps", "payload": {"steps": steps}, "options": options}
        return client.post("/api/jobs", json=body, headers=user.headers)

    return post


def run(app: Flask, job_id: str) -> None:
    """Start and complete a queued job."""
    with app.app_context():
        lifecycle.start_job(UUID(job_id), 1, "w")
        lifecycle.complete_job(UUID(job_id), 1, None)


def payload_of(app: Flask, job_id: str) -> dict[str, Any]:
    """The payload as it is stored."""
    with app.app_context():
        return db.session.scalars(select(Job.payload).where(Job.id == UUID(job_id))).one()


def age(app: Flask, job_id: str, seconds: float) -> None:
    """Let a job's unique period have begun so much earlier."""
    with app.app_context(), transaction() as session:
        job = session.get_one(Job, UUID(job_id))
        assert job.unique_until is not None
        job.unique_until -= timedelta(seconds=seconds)


def test_the_same_key_and_body_return_the_first_job(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    headers = {**user.headers, "Idempotency-Key": "abc"}
    first = client.post("/api/jobs", json=DEMO, headers=headers)
    again = client.post("/api/jobs", json=DEMO, headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.get_json() == first.get_json()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    other = client.post("/api/jobs", json={**DEMO, "payload": {"steps": 4}}, headers=headers)
    assert (other.status_code, other.get_json()["code"]) == (409, "idempotency_conflict")
    theirs = client.post("/api/jobs", json=DEMO, headers={**make_user().headers, "Idempotency-Key": "abc"})
    assert theirs.get_json()["id"] != first.get_json()["id"], "keys are a user's own"
    assert client.get("/api/jobs", headers=user.headers).get_json()["pagination"]["total"] == 1


def test_a_refused_submission_does_not_spend_its_key(client: FlaskClient, make_user: MakeUser) -> None:
    headers = {**make_user().headers, "Idempotency-Key": "abc"}
    assert client.post("/api/jobs", json={"type": "demo-steps"}, headers=headers).status_code == 422
    assert client.post("/api/jobs", json=DEMO, headers=headers).status_code == 202


def test_a_batch_replays_as_a_whole(client: FlaskClient, make_user: MakeUser) -> None:
    headers = {**make_user().headers, "Idempotency-Key": "batch"}
    body = {"jobs": [DEMO, {**DEMO, "name": "second"}]}
    first = client.post("/api/jobs/batch", json=body, headers=headers).get_json()
    again = client.post("/api/jobs/batch", json=body, headers=headers)
    assert again.get_json() == first
    assert [job["name"] for job in first["data"]] == ["Demo steps", "second"]


def test_many_with_one_idempotency_key_make_one_job(app: Flask, make_user: MakeUser) -> None:
    user = make_user()
    answers = at_once(
        app, lambda client: client.post("/api/jobs", json=DEMO, headers={**user.headers, "Idempotency-Key": "race"})
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.get_json()["id"] for answer in answers}) == 1
    assert jobs_of(app, user) == 1


@pytest.mark.parametrize("mode", ["reject", "existing", "replace", "debounce", "throttle"])
def test_of_fifty_submitters_at_once_one_makes_the_job(app: Flask, make_user: MakeUser, mode: str) -> None:
    user = make_user()
    unique = {"mode": mode, **({"period": 60} if mode in {"debounce", "throttle"} else {})}
    body = {**DEMO, "options": {"singletonKey": "race", "unique": unique}}
    answers = at_once(app, lambda client: client.post("/api/jobs", json=body, headers=user.headers))
    statuses = sorted(answer.status_code for answer in answers)
    others = 409 if mode == "reject" else 200
    assert statuses == sorted([202] + [others] * (SUBMITTERS - 1))
    assert jobs_of(app, user) == 1


def at_once(app: Flask, post: Callable[[FlaskClient], TestResponse]) -> list[TestResponse]:
    """What fifty clients are answered that post at the same moment."""
    barrier = threading.Barrier(SUBMITTERS)
    answers: list[TestResponse] = []

    def submit_one() -> None:
        client = app.test_client()
        barrier.wait()
        answer = post(client)
        while answer.status_code == 503:
            # More than the pool has connections for; a client is told to try again.
            answer = post(client)
        answers.append(answer)

    threads = [threading.Thread(target=submit_one) for _ in range(SUBMITTERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def jobs_of(app: Flask, user: Account) -> int:
    """How many jobs a user has."""
    with app.app_context():
        return db.session.scalar(select(func.count()).where(Job.user_id == user.id)) or 0


def test_reject_names_the_job_and_ends_with_it(app: Flask, submit: Submit, make_user: MakeUser) -> None:
    user = make_user()
    first = submit(user).get_json()
    assert first["uniqueKey"] == "report"
    refused = submit(user)
    assert (refused.status_code, refused.get_json()["code"]) == (409, "duplicate_job")
    assert refused.get_json()["errors"] == {"jobId": [first["id"]]}
    assert submit(make_user()).status_code == 202, "another tenant's key is another key"
    run(app, first["id"])
    assert submit(user).status_code == 202


def test_existing_answers_with_the_job_there_is(submit: Submit, make_user: MakeUser) -> None:
    user = make_user()
    first = submit(user, "existing")
    again = submit(user, "existing", steps=9)
    assert (again.status_code, again.get_json()["id"]) == (200, first.get_json()["id"])


def test_replace_gives_a_job_that_has_not_begun_a_newer_payload(
    app: Flask, submit: Submit, make_user: MakeUser
) -> None:
    user = make_user()
    first = submit(user, "replace").get_json()
    again = submit(user, "replace", steps=9)
    assert (again.status_code, again.get_json()["id"]) == (200, first["id"])
    assert payload_of(app, first["id"]) == {"steps": 9}
    with app.app_context():
        lifecycle.start_job(UUID(first["id"]), 1, "w")
    assert submit(user, "replace", steps=10).status_code == 409
    assert payload_of(app, first["id"]) == {"steps": 9}


def test_debounce_pushes_the_time_back_until_it_comes(app: Flask, submit: Submit, make_user: MakeUser) -> None:
    user = make_user()
    first = submit(user, "debounce", period=60).get_json()
    assert first["status"] == "scheduled"
    again = submit(user, "debounce", steps=9, period=120).get_json()
    assert again["id"] == first["id"]
    assert again["scheduledAt"] > first["scheduledAt"]
    assert payload_of(app, first["id"]) == {"steps": 9}
    with app.app_context():
        with transaction() as session:
            session.execute(update(Job).where(Job.id == UUID(first["id"])).values(next_attempt_at=utcnow()))
        lifecycle.release_due()
    later = submit(user, "debounce", period=60)
    assert later.status_code == 202, "the first one is on its way"


def test_throttle_lets_one_through_a_period(app: Flask, submit: Submit, make_user: MakeUser) -> None:
    user = make_user()
    first = submit(user, "throttle", period=60).get_json()
    run(app, first["id"])
    assert submit(user, "throttle", period=60).get_json()["id"] == first["id"], "though it has ended"
    age(app, first["id"], 61)
    assert submit(user, "throttle", period=60).status_code == 202


def test_a_key_may_be_held_in_some_states_only(app: Flask, submit: Submit, make_user: MakeUser) -> None:
    user = make_user()
    first = submit(user, "reject", states=["queued"]).get_json()
    assert submit(user, "reject", states=["queued"]).status_code == 409
    with app.app_context():
        lifecycle.start_job(UUID(first["id"]), 1, "w")
    assert submit(user, "reject", states=["queued"]).status_code == 202


def test_a_cancelled_job_lets_go_and_takes_its_key_again_when_retried(
    client: FlaskClient, submit: Submit, make_user: MakeUser
) -> None:
    user = make_user()
    first = submit(user).get_json()
    client.delete(f"/api/jobs/{first['id']}", headers=user.headers)
    second = submit(user)
    assert second.status_code == 202
    refused = client.post(f"/api/jobs/{first['id']}/retry", headers=user.headers)
    assert (refused.status_code, refused.get_json()["code"]) == (409, "duplicate_job")
    client.delete(f"/api/jobs/{second.get_json()['id']}", headers=user.headers)
    assert client.post(f"/api/jobs/{first['id']}/retry", headers=user.headers).status_code == 202
    assert submit(user).status_code == 409


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"unique": {"mode": "existing"}}, "options.unique"),
        ({"singletonKey": "k", "unique": {"mode": "throttle"}}, "options.unique.period"),
        ({"singletonKey": "k", "unique": {"mode": "debounce", "period": 1}, "delay": 5}, "options.unique"),
        ({"singletonKey": "k", "unique": {"mode": "often"}}, "options.unique.mode"),
        ({"singletonKey": "k", "unique": {"states": ["completed"]}}, "options.unique.states.0"),
        ({"singletonKey": ""}, "options.singletonKey"),
        ({"expireInSeconds": 0}, "options.expireInSeconds"),
    ],
)
def test_options_that_make_no_sense(
    client: FlaskClient, make_user: MakeUser, options: dict[str, Any], field: str
) -> None:
    answer = client.post("/api/jobs", json={**DEMO, "options": options}, headers=make_user().headers)
    assert answer.status_code == 422
    assert field in answer.get_json()["errors"], answer.get_json()
