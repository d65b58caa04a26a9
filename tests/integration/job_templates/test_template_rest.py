"""`/api/job-templates` over HTTP: what is kept, what is run, by whom."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select

from service.audit.models import AuditEntry
from service.database import db
from service.job_templates.models import JobTemplate
from service.job_templates.schemas import TemplateSchema
from service.jobs import registry
from service.jobs.models import Job
from service.settings import current_settings
from tests.conftest import Account, MakeUser

STEPS = {
    "name": "Steps",
    "type": "demo-steps",
    "payload": {"steps": "{{ steps }}", "sleepMs": "{{ pause }}", "permanent": False},
    "variables": [{"name": "steps", "description": "How many"}, {"name": "pause", "default": 0}],
}
PLAIN = {"name": "Plain", "type": "demo-steps", "payload": {"steps": 2}}


def make(client: FlaskClient, user: Account, body: dict[str, Any] = STEPS, **fields: Any) -> Any:
    """A template of a user."""
    answer = client.post("/api/job-templates", json=body | fields, headers=user.headers)
    assert answer.status_code == 201, answer.json
    assert answer.headers["Location"] == f"/api/job-templates/{answer.json['id']}"
    return answer.json


def run(client: FlaskClient, user: Account, template: Any, headers: dict[str, str] | None = None, **body: Any) -> Any:
    """The answer to a run."""
    path = f"/api/job-templates/{template['id']}/run"
    return client.post(path, json=body, headers=user.headers | (headers or {}))


def payload_of(app: Flask, job: Any) -> Any:
    """The payload of a job, as it is stored."""
    with app.app_context():
        return db.session.get_one(Job, UUID(job["id"])).payload


def test_a_template_is_made_read_changed_and_deleted(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    made = make(client, user, options={"priority": 70, "delay": 0}, description="For trying")
    assert set(made) == set(TemplateSchema().fields), "the documented fields are those that are sent"
    expected = {
        "userId": str(user.id),
        "name": "Steps",
        "description": "For trying",
        "payload": STEPS["payload"],
        "options": {"priority": 70, "delay": 0},
        "variables": [
            {"name": "steps", "required": True, "description": "How many"},
            {"name": "pause", "required": False, "default": 0},
        ],
        "shared": False,
    }
    assert made == made | expected
    address = f"/api/job-templates/{made['id']}"
    assert client.get(address, headers=user.headers).json == made
    changed = client.patch(address, json={"name": "Other", "options": {}}, headers=user.headers)
    assert changed.status_code == 200
    assert changed.json == made | {"name": "Other", "options": {}, "updatedAt": changed.json["updatedAt"]}
    replaced = client.put(address, json=PLAIN, headers=user.headers).json
    assert replaced == replaced | PLAIN | {"description": "", "variables": [], "options": {}}
    assert client.delete(address, headers=user.headers).status_code == 204
    assert client.get(address, headers=user.headers).json["code"] == "job_template_not_found"


def test_a_run_is_a_job_with_the_values_in_their_places(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    made = make(client, user, options={"priority": 70, "tags": ["t"]})
    answer = run(client, user, made, variables={"steps": 5})
    job = answer.json
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/api/jobs/{job['id']}")
    assert (job["type"], job["name"], job["status"], job["priority"]) == ("demo-steps", "Steps", "queued", 70)
    assert payload_of(app, job) == {"steps": 5, "sleepMs": 0, "permanent": False}
    assert client.get(answer.headers["Location"], headers=user.headers).status_code == 200


def test_options_of_a_run_take_the_place_of_the_templates(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    options = {"priority": 70, "tags": ["t"], "delay": 60, "retryStrategy": "linear", "retryLimit": 0}
    made = make(client, user, PLAIN, options=options)
    job = run(client, user, made).json
    assert (job["priority"], job["status"], job["maxAttempts"]) == (70, "scheduled", 1)
    given = {"priority": 5, "runAt": "2001-01-01T00:00:00Z", "retryBackoff": False}
    job = run(client, user, made, options=given).json
    assert (job["priority"], job["status"], job["tags"], job["maxAttempts"]) == (5, "queued", ["t"], 1)
    blocked = run(client, user, made, options={"dependsOn": [job["id"]]}).json
    assert blocked["status"] == "blocked"
    refused = run(client, user, made, options={"priority": 101})
    assert (refused.status_code, list(refused.json["errors"])) == (422, ["options.priority"])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"type": "no-such-type"}, "type"),
        ({"payload": {"steps": "{{ nobody }}"}}, "payload.steps"),
        ({"payload": {"steps": {"a": ["{{ steps.__class__ }}"]}}}, "payload.steps.a.0"),
        ({"payload": {"{{ steps }}": 1}}, "payload.{{ steps }}"),
        ({"payload": {"steps": 0}}, "payload.steps"),
        ({"payload": {"steps": 1, "colour": "red"}}, "payload.colour"),
        ({"payload": {"steps": 1}, "options": {"queue": "nowhere"}}, "options.queue"),
        ({"variables": []}, "payload.steps"),
        ({"variables": [{"name": "1x"}]}, "variables.0.name"),
        ({"variables": [{"name": "x"}, {"name": "x"}]}, "variables"),
        ({"variables": [{"name": "x", "required": True, "default": 1}]}, "variables.0.default"),
        ({"variables": [{"name": f"x{number}"} for number in range(101)]}, "variables"),
        ({"options": {"runAt": "2030-01-01T00:00:00Z"}}, "options.runAt"),
        ({"options": {"dependsOn": [str(uuid4())]}}, "options.dependsOn"),
        ({"userId": str(uuid4())}, "userId"),
    ],
)
def test_fields_that_are_not_valid_are_named(
    client: FlaskClient, make_user: MakeUser, changes: dict[str, Any], field: str
) -> None:
    user = make_user()
    refused = client.post("/api/job-templates", json=STEPS | changes, headers=user.headers)
    assert refused.status_code == 422
    assert field in refused.json["errors"], refused.json
    address = f"/api/job-templates/{make(client, user)['id']}"
    for method, body in (("PUT", STEPS | changes), ("PATCH", changes)):
        refused = client.open(address, method=method, json=body, headers=user.headers)
        assert refused.status_code == 422, method
        assert field in refused.json["errors"], refused.json


@pytest.mark.parametrize(
    ("variables", "field"),
    [
        ({}, "variables.steps"),
        ({"pause": 1}, "variables.steps"),
        ({"steps": 1, "userId": "x"}, "variables.userId"),
        ({"steps": 0}, "payload.steps"),
        ({"steps": "many"}, "payload.steps"),
        ({"steps": None}, "payload.steps"),
        ({"steps": {"$sealed": "x"}}, "payload.steps"),
    ],
)
def test_values_that_are_not_valid_are_named(
    client: FlaskClient, make_user: MakeUser, variables: dict[str, Any], field: str
) -> None:
    user = make_user()
    refused = run(client, user, make(client, user), variables=variables)
    assert (refused.status_code, list(refused.json["errors"])) == (422, [field])
    assert client.get("/api/jobs", headers=user.headers).json["data"] == []


def test_a_variable_that_is_not_required_is_null(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    variables = [{"name": "at", "required": False}, {"name": "steps", "default": 4}]
    made = make(client, user, payload={"steps": "{{ steps }}", "failAt": "{{ at }}"}, variables=variables)
    assert payload_of(app, run(client, user, made).json) == {"steps": 4, "failAt": None}
    assert payload_of(app, run(client, user, made, variables={"at": 2}).json) == {"steps": 4, "failAt": 2}


def test_a_small_template_does_not_make_a_huge_job(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    with app.app_context():
        limit = current_settings().max_body_bytes
    made = make(client, user, payload={"steps": ["{{ steps }}"] * 1_000})
    refused = run(client, user, made, variables={"steps": "x" * (limit // 2)})
    assert (refused.status_code, list(refused.json["errors"])) == (422, ["variables"])


def test_a_run_that_comes_twice_is_one(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    made = make(client, user)
    key = {"Idempotency-Key": "once"}
    first = run(client, user, made, key, variables={"steps": 1})
    again = run(client, user, made, key, variables={"steps": 1})
    assert (again.status_code, again.json["id"]) == (202, first.json["id"])
    assert again.headers["Idempotency-Replayed"] == "true"
    other = run(client, user, made, key, variables={"steps": 2})
    assert (other.status_code, other.json["code"]) == (409, "idempotency_conflict")
    assert client.get("/api/jobs", headers=user.headers).json["pagination"]["total"] == 1
    with app.app_context():
        entries = db.session.scalars(select(AuditEntry.action).where(AuditEntry.target_id == made["id"]))
        assert sorted(entries) == ["job_template.create", "job_template.run"]


def test_a_name_is_taken_once_per_user(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    make(client, user)
    other = make(client, user, PLAIN)
    make(client, make_user(organization=user.organization_id))
    refused = client.post("/api/job-templates", json=STEPS, headers=user.headers)
    assert (refused.status_code, refused.json["code"]) == (409, "job_template_name_taken")
    refused = client.patch(f"/api/job-templates/{other['id']}", json={"name": "Steps"}, headers=user.headers)
    assert refused.status_code == 409


CALLS: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("POST", "/run", {"variables": {"steps": 1}}),
    ("PATCH", "", {"name": "Mine"}),
    ("PUT", "", PLAIN),
    ("DELETE", "", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_a_template_is_its_owners_until_it_is_shared(
    client: FlaskClient, make_user: MakeUser, method: str, path: str, body: Any
) -> None:
    owner = make_user()
    address = f"/api/job-templates/{make(client, owner)['id']}"
    colleague = make_user(organization=owner.organization_id)
    operator = make_user(("operator",), organization=owner.organization_id)
    stranger = make_user(("admin",))

    def answer(who: Account) -> tuple[int, str]:
        given = client.open(address + path, method=method, json=body, headers=who.headers)
        return given.status_code, (given.get_json(silent=True) or {}).get("code", "")

    assert answer(stranger) == (404, "job_template_not_found")
    assert answer(colleague) == (403, "not_allowed")
    shared = client.patch(address, json={"shared": True}, headers=operator.headers)
    assert (shared.status_code, shared.json["shared"]) == (200, True)
    assert answer(stranger) == (404, "job_template_not_found")
    reads = path == "/run" or method == "GET"
    expected = (202 if path else 200, "") if reads else (403, "not_allowed")
    assert answer(colleague) == expected
    assert answer(owner) == expected, "what everybody runs, its owner changes no more"
    assert answer(operator)[0] < 300


def test_only_operators_share(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    operator = make_user(("operator",), organization=user.organization_id)
    refused = client.post("/api/job-templates", json=STEPS | {"shared": True}, headers=user.headers)
    assert (refused.status_code, refused.json["code"]) == (403, "not_allowed")
    made = make(client, user, shared=False)
    refused = client.patch(f"/api/job-templates/{made['id']}", json={"shared": True}, headers=user.headers)
    assert refused.status_code == 403
    assert make(client, operator, shared=True)["shared"] is True


def test_the_job_of_a_shared_template_is_the_runners(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    operator = make_user(("operator",))
    user = make_user(organization=operator.organization_id)
    made = make(client, operator, shared=True)
    job = run(client, user, made, variables={"steps": 1}).json
    with app.app_context():
        assert db.session.get_one(Job, UUID(job["id"])).user_id == user.id
    # What the type asks of its user is asked of the runner.
    scan = {"name": "Scan", "type": "library-scan", "payload": {"libraryId": "{{ library }}"}}
    made = make(client, operator, scan, variables=[{"name": "library"}], shared=True)
    refused = run(client, user, made, variables={"library": str(uuid4())})
    assert (refused.status_code, refused.json["code"]) == (404, "library_not_found")


def test_lists_show_ones_own_and_shared_ones_and_to_operators_all(client: FlaskClient, make_user: MakeUser) -> None:
    owner = make_user()
    operator = make_user(("operator",), organization=owner.organization_id)
    colleague = make_user(organization=owner.organization_id)
    make(client, owner, name="own")
    make(client, operator, name="a shared 50%", shared=True)
    make(client, operator, name="z private")
    make(client, make_user(("operator",)), name="elsewhere", shared=True)

    def names(user: Account, query: str = "") -> list[str]:
        return [each["name"] for each in client.get(f"/api/job-templates?{query}", headers=user.headers).json["data"]]

    assert names(owner) == ["a shared 50%", "own"]
    assert names(colleague) == ["a shared 50%"]
    assert names(operator) == ["a shared 50%", "own", "z private"]
    assert names(operator, "shared=false&limit=1&page=2") == ["z private"]
    assert names(operator, "q=50%25") == ["a shared 50%"]
    assert names(operator, "type=library-scan") == []


def test_a_sensitive_payload_is_sealed_and_for_its_owner(
    app: Flask, client: FlaskClient, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vars(registry.get_job_type("demo-steps")), "sensitive", True)
    operator = make_user(("operator",))
    user = make_user(organization=operator.organization_id)
    variables = [{"name": "steps"}, {"name": "pause"}]
    refused = client.post("/api/job-templates", json=STEPS, headers=operator.headers)
    assert list(refused.json["errors"]) == ["variables"], "a default would lie open"
    made = make(client, operator, variables=variables, shared=True)
    assert made["payload"] == STEPS["payload"]
    assert client.get(f"/api/job-templates/{made['id']}", headers=user.headers).json["payload"] is None
    with app.app_context():
        assert "steps" not in str(db.session.get_one(JobTemplate, UUID(made["id"])).payload)
    job = run(client, user, made, variables={"steps": 7, "pause": 0})
    assert job.status_code == 202
    assert "steps" not in str(payload_of(app, job.json))


def test_a_deleted_template_leaves_its_jobs(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    made = make(client, user, PLAIN)
    run(client, user, made)
    client.delete(f"/api/job-templates/{made['id']}", headers=user.headers)
    with app.app_context():
        assert db.session.scalar(select(func.count()).where(Job.user_id == user.id)) == 1
