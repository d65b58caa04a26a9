"""`/api/admin/queues` and `/api/admin/limits`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.accounts.actions import default_organization_id
from service.database import transaction
from service.jobs.waiting import FIGURES_KEY
from service.operations.workers import note_worker
from service.queues.models import JobLimit
from service.queues.schemas import QueueSchema
from service.queues.statistics import measure
from service.redis_client import redis
from tests.conftest import Account, MakeUser
from tests.factories.jobs import run_a_job

QUEUE = "/api/admin/queues/default"


@pytest.fixture
def operator(app: Flask, client: FlaskClient, make_user: MakeUser) -> Iterator[Account]:
    """An operator of the installation, who leaves everything running and unlimited."""
    with app.app_context():
        organization = default_organization_id()
    account = make_user(("operator",), organization)
    yield account
    client.post(f"{QUEUE}/resume", headers=account.headers)
    with app.app_context(), transaction() as session:
        session.query(JobLimit).delete()
        redis().delete(FIGURES_KEY)


def test_a_queue_is_paused_drained_and_resumed(client: FlaskClient, operator: Account) -> None:
    for verb, state in (("pause", "paused"), ("drain", "drain"), ("resume", "running")):
        answer = client.post(f"{QUEUE}/{verb}", headers=operator.headers)
        assert answer.status_code == 200
        queue = answer.get_json()
        assert queue["state"].startswith(state)
        assert queue["paused"] is (state == "paused")
        assert set(queue) == set(QueueSchema().fields), "the documented fields are those that are sent"
    listed = client.get("/api/admin/queues", headers=operator.headers).get_json()["data"]
    assert [each["name"] for each in listed] == ["default"]
    audit = client.get("/api/admin/audit-log?limit=3", headers=operator.headers)
    if audit.status_code == 200:
        assert {each["action"] for each in audit.get_json()["data"]} >= {"queue.pause", "queue.drain", "queue.resume"}


def test_a_queue_that_is_none_is_not_found(client: FlaskClient, operator: Account) -> None:
    for path, method in (("nope", "GET"), ("nope/pause", "POST"), ("delivery/pause", "POST")):
        answer = client.open(f"/api/admin/queues/{path}", method=method, headers=operator.headers)
        assert (answer.status_code, answer.get_json()["code"]) == (404, "queue_not_found")


def test_limits_are_set_listed_and_removed(client: FlaskClient, operator: Account) -> None:
    subject = f"user:{operator.id}"
    body = {"concurrency": 2, "rate": {"limit": 10, "period": 60, "kind": "window"}}
    answer = client.put(f"/api/admin/limits/{subject}", json=body, headers=operator.headers)
    assert answer.status_code == 200
    assert answer.get_json() == {"subject": subject, **body, "source": "operator"}
    listed = client.get("/api/admin/limits", headers=operator.headers).get_json()["data"]
    assert answer.get_json() in listed
    assert client.delete(f"/api/admin/limits/{subject}", headers=operator.headers).status_code == 204
    again = client.delete(f"/api/admin/limits/{subject}", headers=operator.headers)
    assert (again.status_code, again.get_json()["code"]) == (404, "limit_not_found")


@pytest.mark.parametrize(
    "subject",
    ["type:nope", "user:1", "user:", "tenant:x", "planet:earth", "type", "key:x:demo-steps:k", "key:demo-steps"],
)
def test_what_cannot_be_limited_is_refused(client: FlaskClient, operator: Account, subject: str) -> None:
    answer = client.put(f"/api/admin/limits/{subject}", json={"concurrency": 1}, headers=operator.headers)
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, ["subject"])


def test_a_key_may_hold_anything(client: FlaskClient, operator: Account) -> None:
    subject = f"key:{operator.organization_id}:demo-steps:a:b/c d"
    answer = client.put(f"/api/admin/limits/{subject}", json={"concurrency": 1}, headers=operator.headers)
    assert (answer.status_code, answer.get_json()["subject"]) == (200, subject)


@pytest.mark.parametrize(
    "body", [{"concurrency": -1}, {"rate": {"limit": 0, "period": 1}}, {"rate": {"limit": 1}}, {"speed": 1}]
)
def test_limits_that_make_no_sense_are_refused(client: FlaskClient, operator: Account, body: Any) -> None:
    assert client.put("/api/admin/limits/type:demo-steps", json=body, headers=operator.headers).status_code == 422


def test_operators_of_a_tenant_do_not_steer_the_installation(client: FlaskClient, make_user: MakeUser) -> None:
    tenant = make_user(("admin", "operator"))
    for method, path in (("GET", "queues"), ("POST", "queues/default/pause"), ("GET", "limits")):
        answer = client.open(f"/api/admin/{path}", method=method, headers=tenant.headers)
        assert (answer.status_code, answer.get_json()["code"]) == (403, "not_allowed")


def test_the_wait_is_estimated_from_what_was_measured(
    app: Flask, client: FlaskClient, operator: Account, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = make_user()
    run_a_job(app, user)
    with app.app_context():
        note_worker("w1@here", ["default"], 2)
        measured = measure()
    assert measured["default"]["processes"] == 2
    assert measured["default"]["meanSeconds"] is not None
    monkeypatch.setattr("service.jobs.waiting.CACHED_SECONDS", 0.0)
    client.post(f"{QUEUE}/pause", headers=operator.headers)
    body = {"type": "demo-steps", "payload": {"steps": 1}, "options": {"priority": 100}}
    jobs = [client.post("/api/jobs", json=body, headers=user.headers).get_json() for _ in range(5)]
    places = [job["queuePosition"] for job in jobs]
    assert places == list(range(places[0], places[0] + 5))
    waits = [job["estimatedWaitSeconds"] for job in jobs]
    assert waits == sorted(waits)
    read = client.get(f"/api/jobs/{jobs[4]['id']}", headers=user.headers).get_json()
    assert read["queuePosition"] == places[4]
    client.delete(f"/api/jobs/{jobs[0]['id']}", headers=user.headers)
    read = client.get(f"/api/jobs/{jobs[4]['id']}", headers=user.headers).get_json()
    assert read["queuePosition"] == places[4] - 1, "the place moves up"
