"""Many jobs in one transaction, and jobs that wait too long."""

from __future__ import annotations

from uuid import UUID

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update

from service.clock import utcnow
from service.database import transaction
from service.jobs import lifecycle
from service.jobs.models import Job
from service.jobs.submission import SENT_AT_ONCE
from service.queue import celery_app, depth
from tests.conftest import MakeUser
from tests.factories.jobs import send_held

DEMO = {"type": "demo-steps", "payload": {"steps": 3}}


def test_a_thousand_jobs_are_accepted_at_once(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    with app.app_context(), celery_app.connection_for_write() as connection:
        # What other tests left.
        send_held()
        connection.default_channel.queue_purge("default")
    jobs = [{**DEMO, "name": str(number)} for number in range(1000)]
    answer = client.post("/api/jobs/batch", json={"jobs": jobs}, headers=user.headers)
    assert answer.status_code == 202
    assert [job["name"] for job in answer.get_json()["data"]] == [job["name"] for job in jobs]
    assert depth("default") == SENT_AT_ONCE, "the others are sent in turn with those of other tenants"
    with app.app_context():
        send_held()
    assert depth("default") == 1000
    assert client.get("/api/jobs", headers=user.headers).get_json()["pagination"]["total"] == 1000


def test_one_bad_job_refuses_the_batch_and_is_named(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    bad = {"type": "demo-steps", "payload": {"steps": 0}}
    answer = client.post("/api/jobs/batch", json={"jobs": [DEMO, DEMO, bad]}, headers=user.headers)
    assert answer.status_code == 422
    assert "jobs.2.payload.steps" in answer.get_json()["errors"]
    assert client.get("/api/jobs", headers=user.headers).get_json()["pagination"]["total"] == 0


def test_the_size_of_a_batch(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    for jobs in ([], [DEMO] * 1001):
        assert client.post("/api/jobs/batch", json={"jobs": jobs}, headers=user.headers).status_code == 422


def test_a_batch_with_the_same_unique_key_twice_is_refused_whole(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    unique = {**DEMO, "options": {"singletonKey": "k"}}
    answer = client.post("/api/jobs/batch", json={"jobs": [unique, unique]}, headers=user.headers)
    assert answer.status_code == 409
    assert client.get("/api/jobs", headers=user.headers).get_json()["pagination"]["total"] == 0


def test_a_job_that_waits_too_long_fails_as_expired(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    body = {**DEMO, "options": {"expireInSeconds": 3600}}
    expiring, begun = (client.post("/api/jobs", json=body, headers=user.headers).get_json()["id"] for _ in range(2))
    with app.app_context():
        lifecycle.start_job(UUID(begun), 1, "w")
        with transaction() as session:
            mine = Job.id.in_([UUID(expiring), UUID(begun)])
            session.execute(update(Job).where(mine).values(expires_at=utcnow()))
        assert lifecycle.start_job(UUID(expiring), 1, "w") is None, "it may not begin any more"
        assert lifecycle.expire_due() == 1
    job = client.get(f"/api/jobs/{expiring}", headers=user.headers).get_json()
    assert (job["status"], job["error"]["code"]) == ("failed", "expired")
    assert client.get(f"/api/jobs/{begun}", headers=user.headers).get_json()["status"] == "active"
    inbox = client.get("/api/notifications", headers=user.headers).get_json()["data"]
    assert inbox[0]["type"] == "job_failed"
    retried = client.post(f"/api/jobs/{expiring}/retry", headers=user.headers)
    assert retried.status_code == 202, "a retry by hand does not expire again"


def test_a_job_may_ask_for_its_own_next_time(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    job_id = client.post("/api/jobs", json=DEMO, headers=user.headers).get_json()["id"]
    with app.app_context():
        lifecycle.start_job(UUID(job_id), 1, "w")
        error = {"code": "retry_later", "message": "later", "retryable": True}
        row = lifecycle.fail_job(UUID(job_id), 1, error, retry_in=1000.0)
    assert row is not None
    assert 990 < (row["next_attempt_at"] - utcnow()).total_seconds() <= 1000
