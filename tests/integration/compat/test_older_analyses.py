"""`/analyze/jobs` as the clients of S4 know it, and how the older paths are documented."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from service.audit.models import AuditEntry
from service.compat.schemas import AnalysisJobSchema
from service.database import db
from service.jobs import lifecycle
from service.queue import celery_app, task_id_of
from tests.conftest import Account, MakeUser
from tests.factories.jobs import run_a_job, start

OLDER_PREFIXES = ("/jobs", "/webhooks", "/analyze/")


def submit(client: FlaskClient, user: Account, **options: Any) -> str:
    """A demo job; its id."""
    body = {"type": "demo-steps", "payload": {"steps": 2}, "options": options}
    answer = client.post("/api/jobs", json=body, headers=user.headers)
    assert answer.status_code == 202, answer.json
    return str(answer.get_json()["id"])


def test_a_queued_job_tells_its_place(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    job_id = submit(client, user)
    polled = client.get(f"/analyze/jobs/{job_id}", headers=user.headers)
    assert polled.status_code == 200
    job = polled.get_json()
    assert job["queuePosition"] >= 1
    known = ("jobId", "jobType", "userId", "status", "progress", "stage")
    assert [job[name] for name in known] == [job_id, "demo-steps", str(user.id), "pending", 0, "Job queued"]
    fields = AnalysisJobSchema().fields
    assert set(job) <= set(fields), "what is sent is documented"
    assert {name for name, field in fields.items() if field.required} <= set(job)


def test_a_running_job_tells_its_stage(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    job_id = submit(client, user)
    path = f"/analyze/jobs/{job_id}"
    with app.app_context():
        start(UUID(job_id))
        job = client.get(path, headers=user.headers).get_json()
        assert (job["status"], job["progress"], job["stage"]) == ("processing", 0, "Job processing started")
        report = {"current": 2, "total": 5, "percentage": 40.0, "message": "Generating AI analysis"}
        celery_app.backend.store_result(task_id_of(job_id, 1), report, "PROGRESS")
    job = client.get(path, headers=user.headers).get_json()
    assert (job["status"], job["progress"], job["stage"]) == ("processing", 40, "Generating AI analysis")
    polled = client.get(f"/jobs/{job_id}", headers=user.headers).get_json()
    assert (polled["state"], polled["progress"]) == ("active", 40)
    [listed] = client.get("/jobs", headers=user.headers).get_json()["jobs"]
    assert listed["progress"] == 40


def test_a_completed_and_a_failed_job(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    completed = run_a_job(app, user)
    job = client.get(f"/analyze/jobs/{completed}", headers=user.headers).get_json()
    assert (job["status"], job["progress"], job["stage"]) == ("completed", 100, "Job completed successfully")
    assert (job["result"], job["error"]) == ({"steps": 1}, None)
    assert job["createdAt"] <= job["startedAt"] <= job["completedAt"]

    failed = submit(client, user, retryLimit=0)
    with app.app_context():
        start(UUID(failed))
        lifecycle.fail_job(UUID(failed), 1, {"code": "no_video", "message": "There is none.", "retryable": True})
    job = client.get(f"/analyze/jobs/{failed}", headers=user.headers).get_json()
    assert (job["status"], job["stage"]) == ("failed", "Job failed")
    assert job["error"] == {"message": "There is none.", "code": "no_video"}


def test_a_job_is_cancelled_with_a_reason_once(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    job_id = submit(client, user)
    path = f"/analyze/jobs/{job_id}/cancel"
    answer = client.post(path, json={"reason": "wrong video", "source": "the page"}, headers=user.headers)
    assert answer.status_code == 200
    job = answer.get_json()
    assert (job["status"], job["stage"], job["reason"]) == ("cancelled", "Job cancelled", "wrong video")
    assert client.get(f"/api/jobs/{job_id}", headers=user.headers).get_json()["cancelReason"] == "wrong video"
    again = client.post(path, headers=user.headers)
    assert (again.status_code, again.get_json()["code"]) == (409, "job_not_cancellable")
    with app.app_context():
        query = select(AuditEntry.action).where(AuditEntry.target_id == job_id)
        assert list(db.session.scalars(query)) == ["job.cancel"]


def test_a_job_is_cancelled_without_a_body(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    answer = client.post(f"/analyze/jobs/{submit(client, user)}/cancel", headers=user.headers)
    assert (answer.status_code, answer.get_json()["status"], answer.get_json()["reason"]) == (200, "cancelled", None)


def test_a_users_jobs_newest_first(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    operator = make_user(("operator",), organization=user.organization_id)
    submit(client, operator)
    job_ids = [submit(client, user) for _ in range(3)]
    path = f"/analyze/jobs/user/{user.id}"
    for who in (user, operator):
        page = client.get(path, headers=who.headers).get_json()
        assert [job["jobId"] for job in page["jobs"]] == job_ids[::-1]
        assert page["pagination"] == {"total": 3, "page": 1, "limit": 100, "pages": 1}
    second = client.get(f"{path}?limit=2&page=2", headers=user.headers).get_json()
    assert [job["jobId"] for job in second["jobs"]] == job_ids[:1]


def test_others_are_refused(client: FlaskClient, make_user: MakeUser) -> None:
    owner = make_user()
    colleague = make_user(organization=owner.organization_id)
    stranger = make_user(("admin",))
    job_id = submit(client, owner)
    for method, path, unknown in (
        ("GET", f"/analyze/jobs/{job_id}", "job_not_found"),
        ("POST", f"/analyze/jobs/{job_id}/cancel", "job_not_found"),
        ("GET", f"/analyze/jobs/user/{owner.id}", "user_not_found"),
    ):
        for who, status, code in ((colleague, 403, "not_allowed"), (stranger, 404, unknown)):
            refused = client.open(path, method=method, headers=who.headers)
            assert (refused.status_code, refused.get_json()["code"]) == (status, code), path
    nobody = client.get(f"/analyze/jobs/user/{uuid4()}", headers=colleague.headers)
    assert (nobody.status_code, nobody.get_json()["code"]) == (404, "user_not_found")
    assert client.get(f"/analyze/jobs/{job_id}", headers=owner.headers).get_json()["status"] == "pending"


def test_the_document_marks_the_older_paths(app: Flask, client: FlaskClient) -> None:
    paths = client.get("/api/openapi.json").get_json()["paths"]
    older = {path: methods for path, methods in paths.items() if path.startswith(OLDER_PREFIXES)}
    served = {rule.rule for rule in app.url_map.iter_rules() if rule.rule.startswith(OLDER_PREFIXES)}
    assert {path.replace("{", "<uuid:").replace("}", ">") for path in older} == served
    for path, methods in paths.items():
        for method, operation in methods.items():
            if method == "parameters":
                continue
            is_marked = (operation.get("deprecated"), operation["tags"]) == (True, ["older-paths"])
            assert is_marked == (path in older), (method, path)
