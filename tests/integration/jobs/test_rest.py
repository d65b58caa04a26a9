"""`/api/jobs` over HTTP."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.clock import utcnow
from service.jobs import lifecycle
from service.jobs.schemas import JobSchema
from tests.conftest import MakeUser

DEMO = {"type": "demo-steps", "payload": {"steps": 3}}


def test_a_job_is_accepted_and_read(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    answer = client.post("/api/jobs", json={**DEMO, "name": "Mine", "options": {"tags": ["a"]}}, headers=user.headers)
    assert answer.status_code == 202
    job = answer.get_json()
    assert answer.headers["Location"] == f"/api/jobs/{job['id']}"
    assert (job["name"], job["status"], job["maxAttempts"], job["tags"]) == ("Mine", "queued", 4, ["a"])
    assert client.get(answer.headers["Location"], headers=user.headers).get_json() == job
    fields = JobSchema().fields
    assert set(job) <= set(fields), "what is sent is documented"
    assert {name for name, field in fields.items() if field.required} <= set(job)


def test_times_are_utc_with_z(client: FlaskClient, make_user: MakeUser) -> None:
    job = client.post("/api/jobs", json=DEMO, headers=make_user().headers).get_json()
    assert job["createdAt"].endswith("Z")
    assert abs(datetime.fromisoformat(job["createdAt"]) - utcnow()) < timedelta(seconds=10)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"payload": {}}, "type"),
        ({"type": "demo-steps", "payload": {}}, "payload.steps"),
        ({"type": "demo-steps", "payload": {"steps": 0}}, "payload.steps"),
        ({"type": "demo-steps", "payload": {"steps": 1, "x": 1}}, "payload.x"),
        ({"type": "demo-steps", "payload": []}, "payload"),
        ({"type": "no-such-type"}, "type"),
        ({**DEMO, "options": {"priority": 101}}, "options.priority"),
        ({**DEMO, "options": {"delay": -1}}, "options.delay"),
        ({**DEMO, "options": {"delay": 1, "runAt": "2030-01-01T00:00:00Z"}}, "options.delay"),
        ({**DEMO, "options": {"runAt": "2030-01-01T00:00:00"}}, "options.runAt"),
        ({**DEMO, "options": {"retryStrategy": "never"}}, "options.retryStrategy"),
        ({**DEMO, "userId": str(uuid4())}, "userId"),
        ({**DEMO, "status": "completed"}, "status"),
    ],
)
def test_invalid_fields_are_named(client: FlaskClient, make_user: MakeUser, body: object, field: str) -> None:
    answer = client.post("/api/jobs", json=body, headers=make_user().headers)
    assert answer.status_code == 422
    error = answer.get_json()
    assert error["code"] in {"validation_failed", "unknown_job_type"}
    assert field in error["errors"], error


def test_others_see_403_within_and_404_across_tenants(client: FlaskClient, make_user: MakeUser) -> None:
    owner = make_user()
    colleague = make_user(organization=owner.organization_id)
    operator = make_user(("operator",), organization=owner.organization_id)
    stranger = make_user(("admin",))
    path = client.post("/api/jobs", json=DEMO, headers=owner.headers).headers["Location"]
    for method, suffix in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/retry"),
        ("GET", "/logs"),
        ("GET", "/executions"),
    ):
        refused = client.open(path + suffix, method=method, headers=colleague.headers)
        assert (refused.status_code, refused.get_json()["code"]) == (403, "not_allowed")
        unknown = client.open(path + suffix, method=method, headers=stranger.headers)
        assert (unknown.status_code, unknown.get_json()["code"]) == (404, "job_not_found")
    assert client.get(path, headers=operator.headers).status_code == 200
    assert client.get(path).status_code == 401


def test_lists_are_own_filtered_and_paged(client: FlaskClient, make_user: MakeUser) -> None:
    user, other = make_user(), make_user()
    client.post("/api/jobs", json=DEMO, headers=other.headers)
    names = [f"job 50%_{number}" for number in range(5)]
    for name in names:
        options = {"tags": [name[-1]], "delay": 60 if name.endswith("4") else 0}
        client.post("/api/jobs", json={**DEMO, "name": name, "options": options}, headers=user.headers)

    def listed(query: str) -> list[str]:
        answer = client.get(f"/api/jobs?{query}", headers=user.headers)
        assert answer.status_code == 200, answer.get_json()
        return [job["name"] for job in answer.get_json()["data"]]

    assert listed("") == names[::-1]
    page = client.get("/api/jobs?page=2&limit=2", headers=user.headers).get_json()
    assert [job["name"] for job in page["data"]] == [names[2], names[1]]
    last = page["data"][-1]["id"]
    assert page["pagination"] == {"page": 2, "limit": 2, "total": 5, "totalPages": 3, "nextCursor": last}
    rest = client.get(f"/api/jobs?limit=2&cursor={last}", headers=user.headers).get_json()
    assert [job["name"] for job in rest["data"]] == [names[0]]
    assert rest["pagination"] == {"page": None, "limit": 2, "total": None, "totalPages": None, "nextCursor": None}
    assert listed("status=queued") == names[3::-1]
    assert listed("status=waiting") == names[3::-1]
    assert listed("status=delayed") == [names[4]]
    assert listed("tag=2") == [names[2]]
    assert listed("type=demo-steps&q=50%25_3") == [names[3]], "wildcards of SQL are plain text"
    assert listed("type=other") == []
    assert listed("since=2001-01-01T00:00:00Z&until=2002-01-01T00:00:00Z") == []
    assert len(listed("since=2001-01-01T00:00:00Z")) == 5
    for bad in ("page=0", "cursor=abc", "limit=101", "status=strange", "since=yesterday"):
        assert client.get(f"/api/jobs?{bad}", headers=user.headers).status_code == 422


def test_cancel_and_retry(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    path = client.post("/api/jobs", json=DEMO, headers=user.headers).headers["Location"]
    cancelled = client.delete(path, json={"reason": "changed my mind"}, headers=user.headers)
    assert cancelled.status_code == 200
    assert (cancelled.get_json()["status"], cancelled.get_json()["cancelReason"]) == ("cancelled", "changed my mind")
    again = client.delete(path, headers=user.headers)
    assert (again.status_code, again.get_json()["code"]) == (409, "job_not_cancellable")
    retried = client.post(f"{path}/retry", headers=user.headers)
    assert (retried.status_code, retried.get_json()["status"]) == (202, "queued")
    assert client.post(f"{path}/retry", headers=user.headers).get_json()["code"] == "job_not_retryable"


def test_attempts_show_tracebacks_to_operators_only(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    operator = make_user(("operator",), organization=user.organization_id)
    job = client.post("/api/jobs", json=DEMO, headers=user.headers).get_json()
    with app.app_context():
        lifecycle.start_job(UUID(job["id"]), 1, "w")
        error = {"code": "boom", "message": "boom", "retryable": False}
        lifecycle.fail_job(UUID(job["id"]), 1, error, "Traceback: secret path")
    path = f"/api/jobs/{job['id']}/executions"
    seen = client.get(path, headers=user.headers).get_json()["data"]
    assert [(each["attempt"], each["status"], each["error"]["code"]) for each in seen] == [(1, "failed", "boom")]
    assert "traceback" not in seen[0]
    assert client.get(path, headers=operator.headers).get_json()["data"][0]["traceback"] == "Traceback: secret path"


def test_job_types_tell_their_payload_as_json_schema(client: FlaskClient, make_user: MakeUser) -> None:
    kinds = client.get("/api/job-types", headers=make_user().headers).get_json()["data"]
    demo = next(kind for kind in kinds if kind["name"] == "demo-steps")
    assert demo["payload"]["required"] == ["steps"]
    assert demo["payload"]["properties"]["sleepMs"]["maximum"] == 60_000
    assert demo["defaults"]["retryLimit"] == 3
