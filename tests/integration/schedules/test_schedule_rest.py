"""`/api/schedules` over HTTP: what is accepted, who may do what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from service.audit.models import AuditEntry
from service.clock import utcnow
from service.database import db, transaction
from service.jobs import registry
from service.schedules.models import Schedule
from service.schedules.schemas import ScheduleRunSchema, ScheduleSchema
from tests.conftest import Account, MakeUser
from tests.integration.schedules.conftest import HOURLY, NIGHTLY, MakeSchedule


def seconds_until(moment: str) -> float:
    """How far a time of an answer lies ahead."""
    return (datetime.fromisoformat(moment) - utcnow()).total_seconds()


def test_a_schedule_is_made_read_and_listed(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    options = {"priority": 80, "tags": ["night"], "singletonKey": "k", "unique": {"mode": "existing"}}
    body = {**NIGHTLY, "timezone": "Europe/Berlin", "options": options, "misfirePolicy": "all", "misfireLimit": 3}
    answer = client.post("/api/schedules", json=body, headers=user.headers)
    assert answer.status_code == 201, answer.json
    made = answer.json
    assert answer.headers["Location"] == f"/api/schedules/{made['id']}"
    assert set(made) == set(ScheduleSchema().fields), "the documented fields are those that are sent"
    assert made == made | body | {"overlapPolicy": "skip", "intervalSeconds": None, "userId": str(user.id)}
    nothing_yet = ("lastRunAt", "lastJobId", "lastError", "pausedAt")
    assert [made[name] for name in nothing_yet] == [None] * 4
    assert made["nextRunAt"] == made["nextRuns"][0]
    assert len(made["nextRuns"]) == 5
    assert 0 < seconds_until(made["nextRunAt"]) <= 25 * 3600
    assert client.get(answer.headers["Location"], headers=user.headers).json == made
    client.post("/api/schedules", json=HOURLY, headers=user.headers)
    page = client.get("/api/schedules", headers=user.headers).json
    assert [each["name"] for each in page["data"]] == ["Hourly", "Nightly"]
    assert page["data"][1] == made


def test_an_interval_begins_one_interval_after_its_creation(make_schedule: MakeSchedule, make_user: MakeUser) -> None:
    made = make_schedule(make_user(), intervalSeconds=90)
    created = datetime.fromisoformat(made["createdAt"])
    expected = [created + timedelta(seconds=90 * number) for number in range(1, 6)]
    assert [datetime.fromisoformat(each) for each in made["nextRuns"]] == expected
    assert (made["cron"], made["intervalSeconds"], made["timezone"]) == (None, 90, "UTC")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": " "}, "name"),
        ({"type": "no-such-type"}, "type"),
        ({"payload": {"steps": 0}}, "payload.steps"),
        ({"payload": {"steps": 1, "x": 1}}, "payload.x"),
        ({"type": "library-scan", "payload": {"libraryId": 5}}, "payload.libraryId"),
        ({"cron": None}, "cron"),
        ({"intervalSeconds": 60}, "cron"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "* * * * * *"}, "cron"),
        ({"cron": "0 0 31 2 *"}, "cron"),
        ({"cron": "1," * 200 + "1 * * * *"}, "cron"),
        ({"cron": None, "intervalSeconds": 0.5}, "intervalSeconds"),
        ({"cron": None, "intervalSeconds": 1e12}, "intervalSeconds"),
        ({"timezone": "Middle/Earth"}, "timezone"),
        ({"timezone": "../UTC"}, "timezone"),
        ({"misfirePolicy": "never"}, "misfirePolicy"),
        ({"misfireLimit": 0}, "misfireLimit"),
        ({"overlapPolicy": "perhaps"}, "overlapPolicy"),
        ({"options": {"delay": 5}}, "options.delay"),
        ({"options": {"runAt": "2030-01-01T00:00:00Z"}}, "options.runAt"),
        ({"options": {"dependsOn": [str(uuid4())]}}, "options.dependsOn"),
        ({"options": {"priority": 101}}, "options.priority"),
        ({"options": {"queue": "nowhere"}}, "options.queue"),
        ({"userId": str(uuid4())}, "userId"),
        ({"nextRunAt": "2030-01-01T00:00:00Z"}, "nextRunAt"),
    ],
)
def test_fields_that_are_not_valid_are_named(
    client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule, changes: dict[str, Any], field: str
) -> None:
    user = make_user()
    refused = client.post("/api/schedules", json=NIGHTLY | changes, headers=user.headers)
    assert refused.status_code == 422
    assert field in refused.json["errors"], refused.json
    address = f"/api/schedules/{make_schedule(user)['id']}"
    for method, body in (("PUT", NIGHTLY | changes), ("PATCH", changes)):
        if method == "PATCH" and field == "cron" and changes == {"intervalSeconds": 60}:
            continue
        refused = client.open(address, method=method, json=body, headers=user.headers)
        assert (refused.status_code, list(refused.json["errors"])) == (422, [field]), method
    assert client.get("/api/schedules", headers=user.headers).json["pagination"]["total"] == 1


def test_a_payload_that_the_type_refuses_its_owner_is_refused(client: FlaskClient, make_user: MakeUser) -> None:
    body = {**NIGHTLY, "type": "library-scan", "payload": {"libraryId": str(uuid4())}}
    answer = client.post("/api/schedules", json=body, headers=make_user().headers)
    assert (answer.status_code, answer.json["code"]) == (404, "library_not_found")


def test_a_preview_makes_nothing(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()

    def preview(**body: Any) -> list[datetime]:
        answer = client.post("/api/schedules/preview", json=body, headers=user.headers)
        assert answer.status_code == 200, answer.json
        return [datetime.fromisoformat(each) for each in answer.json["nextRuns"]]

    new_year = preview(cron="0 0 1 1 *", timezone="Asia/Kathmandu")
    assert [(each.month, each.day, each.hour, each.minute) for each in new_year] == [(12, 31, 18, 15)] * 5
    minutes = preview(intervalSeconds=60)
    assert minutes[4] - minutes[0] == timedelta(minutes=4)
    for bad in ({}, {"cron": "nonsense"}, {"cron": "@daily", "timezone": "Nowhere"}, {"intervalSeconds": 0}):
        assert client.post("/api/schedules/preview", json=bad, headers=user.headers).status_code == 422
    assert client.get("/api/schedules", headers=user.headers).json["data"] == []


def test_a_change_is_reckoned_from_now(client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule) -> None:
    user = make_user()
    made = make_schedule(user, options={"priority": 80})
    address = f"/api/schedules/{made['id']}"

    def change(**fields: Any) -> Any:
        answer = client.patch(address, json=fields, headers=user.headers)
        assert answer.status_code == 200, answer.json
        return answer.json

    changed = change(intervalSeconds=3600)
    assert (changed["cron"], changed["intervalSeconds"]) == (None, 3600)
    assert 0 < seconds_until(changed["nextRunAt"]) <= 3600
    changed = change(cron="@yearly", intervalSeconds=None, timezone="Asia/Tokyo")
    assert (changed["cron"], changed["intervalSeconds"]) == ("@yearly", None)
    assert datetime.fromisoformat(changed["nextRunAt"]).astimezone(UTC).strftime("%m-%d %H") == "12-31 15"
    changed = change(name="Other", payload={"steps": 4}, overlapPolicy="buffer")
    assert changed == changed | {"name": "Other", "payload": {"steps": 4}, "overlapPolicy": "buffer", "cron": "@yearly"}
    assert changed["options"] == {"priority": 80}
    refused = client.patch(address, json={"type": "library-scan"}, headers=user.headers)
    assert refused.status_code == 422, "the payload is not one of that type"
    replaced = client.put(address, json=HOURLY, headers=user.headers)
    assert replaced.status_code == 200
    assert replaced.json == replaced.json | HOURLY | {"options": {}, "timezone": "UTC", "overlapPolicy": "skip"}
    assert replaced.json["createdAt"] == made["createdAt"]


def test_a_name_is_taken_once_per_user(client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule) -> None:
    user = make_user()
    make_schedule(user)
    other = make_schedule(user, name="Other")
    make_schedule(make_user(organization=user.organization_id))
    refused = client.post("/api/schedules", json=NIGHTLY, headers=user.headers)
    assert (refused.status_code, refused.json["code"]) == (409, "schedule_name_taken")
    refused = client.patch(f"/api/schedules/{other['id']}", json={"name": "Nightly"}, headers=user.headers)
    assert (refused.status_code, refused.json["code"]) == (409, "schedule_name_taken")


def test_a_pause_ends_with_the_next_time_from_then(
    app: Flask, client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    user = make_user()
    address = f"/api/schedules/{make_schedule(user)['id']}"
    paused = client.post(f"{address}/pause", headers=user.headers).json
    assert (paused["nextRunAt"], paused["nextRuns"]) == (None, [])
    assert abs(seconds_until(paused["pausedAt"])) < 10
    assert client.post(f"{address}/pause", headers=user.headers).json == paused, "once more changes nothing"
    assert client.patch(address, json={"cron": "@daily"}, headers=user.headers).json["nextRunAt"] is None
    resumed = client.post(f"{address}/resume", headers=user.headers).json
    assert resumed["pausedAt"] is None
    assert 0 < seconds_until(resumed["nextRunAt"]) <= 24 * 3600
    assert client.post(f"{address}/resume", headers=user.headers).json["nextRunAt"] == resumed["nextRunAt"]


def test_run_now_submits_at_once_and_moves_nothing(
    client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    user = make_user()
    made = make_schedule(user, name="Mine", options={"tags": ["t"], "priority": 7})
    address = f"/api/schedules/{made['id']}"
    answer = client.post(f"{address}/run", headers=user.headers)
    job = answer.json
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/api/jobs/{job['id']}")
    assert (job["name"], job["status"], job["tags"], job["priority"]) == ("Mine", "queued", ["t"], 7)
    assert job["scheduleId"] == made["id"]
    after = client.get(address, headers=user.headers).json
    assert (after["lastJobId"], after["nextRunAt"]) == (job["id"], made["nextRunAt"])
    client.post(f"{address}/pause", headers=user.headers)
    second = client.post(f"{address}/run", headers=user.headers)
    assert second.status_code == 202, "paused or not, and beside a job that has not ended"
    runs = client.get(f"{address}/runs", headers=user.headers).json
    assert set(runs["data"][0]) == set(ScheduleRunSchema().fields)
    assert [(each["fireTime"], each["outcome"], each["jobId"]) for each in runs["data"]] == [
        (None, "submitted", second.json["id"]),
        (None, "submitted", job["id"]),
    ]
    page = client.get(f"{address}/runs?limit=1", headers=user.headers).json
    rest = client.get(f"{address}/runs?cursor={page['pagination']['nextCursor']}", headers=user.headers).json
    assert [each["jobId"] for each in rest["data"]] == [job["id"]]


def test_jobs_are_found_by_their_schedule(
    client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    user = make_user()
    made = make_schedule(user)
    client.post("/api/jobs", json={"type": "demo-steps", "payload": {"steps": 1}}, headers=user.headers)
    job = client.post(f"/api/schedules/{made['id']}/run", headers=user.headers).json
    listed = client.get(f"/api/jobs?scheduleId={made['id']}", headers=user.headers).json["data"]
    assert [each["id"] for each in listed] == [job["id"]]
    assert client.get(f"/api/jobs?scheduleId={uuid4()}", headers=user.headers).json["data"] == []
    assert client.get("/api/jobs?scheduleId=x", headers=user.headers).status_code == 422


def test_a_deleted_schedule_leaves_its_jobs(
    client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    user = make_user()
    address = f"/api/schedules/{make_schedule(user)['id']}"
    job = client.post(f"{address}/run", headers=user.headers).json
    assert client.delete(address, headers=user.headers).status_code == 204
    assert client.get(address, headers=user.headers).json["code"] == "schedule_not_found"
    assert client.get(f"/api/jobs/{job['id']}", headers=user.headers).json["scheduleId"] == job["scheduleId"]


CALLS = [
    ("GET", "", None, 200),
    ("GET", "/runs", None, 200),
    ("POST", "/pause", None, 200),
    ("POST", "/resume", None, 200),
    ("POST", "/run", None, 202),
    ("PATCH", "", {"name": "Mine"}, 403),
    ("PUT", "", NIGHTLY, 403),
    ("DELETE", "", None, 204),
]


@pytest.mark.parametrize(("method", "path", "body", "operators_answer"), CALLS)
def test_a_schedule_is_its_owners_and_operators_steer_it(
    client: FlaskClient,
    make_user: MakeUser,
    make_schedule: MakeSchedule,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    operators_answer: int,
) -> None:
    owner = make_user()
    made = make_schedule(owner)
    address = f"/api/schedules/{made['id']}{path}"
    colleague = make_user(organization=owner.organization_id)
    operator = make_user(("operator",), organization=owner.organization_id)
    for stranger in (make_user(), make_user(("admin",))):
        answer = client.open(address, method=method, json=body, headers=stranger.headers)
        assert (answer.status_code, answer.json["code"]) == (404, "schedule_not_found")
    answer = client.open(address, method=method, json=body, headers=colleague.headers)
    assert (answer.status_code, answer.json["code"]) == (403, "not_allowed")
    assert client.get(f"/api/schedules/{made['id']}", headers=owner.headers).json == made
    answer = client.open(address, method=method, json=body, headers=operator.headers)
    assert answer.status_code == operators_answer
    if path == "/run":
        job = client.get(answer.headers["Location"], headers=owner.headers)
        assert job.status_code == 200, "it runs in the owner's name"


def test_lists_show_ones_own_and_to_operators_the_tenants(
    client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    owner = make_user()
    colleague = make_user(organization=owner.organization_id)
    operator = make_user(("operator",), organization=owner.organization_id)
    make_schedule(owner, name="b 50%")
    paused = make_schedule(owner, name="a")
    client.post(f"/api/schedules/{paused['id']}/pause", headers=owner.headers)
    make_schedule(colleague, name="c")
    make_schedule(make_user(), name="elsewhere")

    def names(user: Account, query: str = "") -> list[str]:
        return [each["name"] for each in client.get(f"/api/schedules?{query}", headers=user.headers).json["data"]]

    assert names(owner) == ["a", "b 50%"]
    assert names(colleague) == ["c"]
    assert names(operator) == ["a", "b 50%", "c"]
    assert names(operator, "paused=true") == ["a"]
    assert names(operator, "paused=false&q=50%25") == ["b 50%"]
    assert names(operator, "type=demo-steps&limit=1&page=3") == ["c"]
    assert names(operator, "type=library-scan") == []


def test_a_deactivated_owners_schedule_cannot_be_run(
    client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    owner = make_user()
    admin = make_user(("admin",), organization=owner.organization_id)
    address = f"/api/schedules/{make_schedule(owner)['id']}"
    client.patch(f"/api/admin/users/{owner.id}", json={"isActive": False}, headers=admin.headers)
    refused = client.post(f"{address}/run", headers=admin.headers)
    assert (refused.status_code, refused.json["code"]) == (409, "owner_deactivated")
    assert client.get(f"{address}/runs", headers=admin.headers).json["data"] == []


def test_what_people_do_is_on_record(
    app: Flask, client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    user = make_user()
    made = make_schedule(user)
    address = f"/api/schedules/{made['id']}"
    for path in ("/run", "/pause", "/resume"):
        client.post(address + path, headers=user.headers)
    client.patch(address, json={"name": "Other"}, headers=user.headers)
    client.delete(address, headers=user.headers)
    with app.app_context():
        query = select(AuditEntry).where(AuditEntry.target_id == made["id"]).order_by(AuditEntry.id)
        entries = list(db.session.scalars(query))
    assert [each.action.removeprefix("schedule.") for each in entries] == [
        "create",
        "run",
        "pause",
        "resume",
        "update",
        "delete",
    ]
    assert {each.actor_id for each in entries} == {user.id}


def test_a_sensitive_payload_is_sealed_and_for_its_owner(
    app: Flask, client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = registry.get_job_type("demo-steps")
    monkeypatch.setitem(vars(kind), "sensitive", True)
    user = make_user()
    operator = make_user(("operator",), organization=user.organization_id)
    made = make_schedule(user)
    address = f"/api/schedules/{made['id']}"
    assert client.get(address, headers=user.headers).json["payload"] == {"steps": 3}
    assert client.get(address, headers=operator.headers).json["payload"] is None
    with app.app_context():
        assert "steps" not in str(db.session.get_one(Schedule, UUID(made["id"])).payload)
    assert client.post(f"{address}/run", headers=operator.headers).status_code == 202
    assert client.patch(address, json={"name": "Other"}, headers=user.headers).json["payload"] == {"steps": 3}
    with app.app_context(), transaction() as session:
        # As if its key had been thrown away.
        session.get_one(Schedule, UUID(made["id"])).payload = {"$sealed": "lost"}
    assert client.get(address, headers=user.headers).json["payload"] is None
    refused = client.post(f"{address}/run", headers=user.headers)
    assert (refused.status_code, refused.json["code"]) == (409, "payload_unreadable")
    assert client.patch(address, json={"payload": {"steps": 1}}, headers=user.headers).status_code == 200
