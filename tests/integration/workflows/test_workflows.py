"""Workflows over REST: order, policies, cancel, retry, and dependencies of single jobs."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from service.database import db, transaction
from service.jobs import lifecycle
from service.jobs.dependencies import parents_of, settle_ended
from service.workflows.actions import finish_ended_workflows
from tests.conftest import Account, MakeUser
from tests.factories.jobs import start

pytestmark = pytest.mark.usefixtures("in_app")

STEP = {"type": "demo-steps", "payload": {"steps": 1}}
PERMANENT = {"code": "gone", "message": "never", "retryable": False}


class Flow:
    """A workflow of a user, driven as workers would."""

    def __init__(self, client: FlaskClient, user: Account, steps: list[dict[str, Any]], **body: Any) -> None:
        self._client = client
        self._user = user
        answer = client.post("/api/workflows", json={"name": "Flow", "steps": steps, **body}, headers=user.headers)
        assert answer.status_code == 202, answer.text
        self.id = answer.get_json()["id"]
        self.ids = {ref: UUID(job["id"]) for ref, job in answer.get_json()["jobs"].items()}

    def read(self) -> dict[str, Any]:
        answer = self._client.get(f"/api/workflows/{self.id}", headers=self._user.headers)
        assert answer.status_code == 200
        return dict(answer.get_json())

    def statuses(self) -> dict[str, str]:
        return {ref: job["status"] for ref, job in self.read()["jobs"].items()}

    def begin(self, ref: str) -> int:
        attempt = int(self.read()["jobs"][ref]["attempt"]) + 1
        assert start(self.ids[ref], attempt) is not None, f"{ref} cannot start: {self.statuses()}"
        return attempt

    def complete(self, *refs: str) -> None:
        for ref in refs:
            lifecycle.complete_job(self.ids[ref], self.begin(ref), {"from": ref})

    def fail(self, ref: str) -> None:
        lifecycle.fail_job(self.ids[ref], self.begin(ref), PERMANENT)


def step(ref: str, *parents: Any, **more: Any) -> dict[str, Any]:
    return {**STEP, "ref": ref, "dependsOn": list(parents), **more}


DIAMOND = [step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c")]


def test_steps_run_in_the_order_of_their_dependencies(client: FlaskClient, make_user: MakeUser) -> None:
    flow = Flow(client, make_user(), DIAMOND)
    assert flow.statuses() == {"a": "queued", "b": "blocked", "c": "blocked", "d": "blocked"}
    assert flow.read()["jobs"]["d"]["dependsOn"] == ["b", "c"]
    assert {job["workflowId"] for job in flow.read()["jobs"].values()} == {flow.id}
    flow.complete("a")
    assert flow.statuses() == {"a": "completed", "b": "queued", "c": "queued", "d": "blocked"}
    assert flow.read()["progress"] == {"current": 1, "total": 4, "percentage": 25}
    flow.complete("b")
    assert flow.statuses()["d"] == "blocked"
    flow.complete("c")
    assert flow.statuses()["d"] == "queued"
    assert {ref: parent.result for ref, parent in parents_of(flow.ids["d"]).items()} == {
        "b": {"from": "b"},
        "c": {"from": "c"},
    }
    assert flow.read()["status"] == "running"
    flow.complete("d")
    assert (flow.read()["status"], flow.read()["progress"]["percentage"]) == ("completed", 100)
    assert flow.read()["completedAt"] is not None


def test_a_blocked_job_cannot_be_started(client: FlaskClient, make_user: MakeUser) -> None:
    flow = Flow(client, make_user(), DIAMOND)
    assert start(flow.ids["d"]) is None


def test_what_waits_for_a_failed_step_is_cancelled_down_to_the_last(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    flow = Flow(client, user, DIAMOND)
    flow.fail("a")
    assert flow.statuses() == {"a": "failed", "b": "cancelled", "c": "cancelled", "d": "cancelled"}
    assert flow.read()["status"] == "failed"
    inbox = client.get("/api/notifications", headers=user.headers).get_json()
    assert sorted(each["type"] for each in inbox["data"]) == [
        "job_cancelled",
        "job_cancelled",
        "job_cancelled",
        "job_failed",
        "job_started",
    ]


def test_a_chain_of_any_length_falls_at_once(client: FlaskClient, make_user: MakeUser) -> None:
    links = [step("0"), *[step(str(number), str(number - 1)) for number in range(1, 300)]]
    flow = Flow(client, make_user(), links)
    flow.fail("0")
    assert set(flow.statuses().values()) == {"failed", "cancelled"}
    assert flow.read()["status"] == "failed"


def test_each_edge_says_what_a_failure_means(client: FlaskClient, make_user: MakeUser) -> None:
    flow = Flow(
        client,
        make_user(),
        [
            step("a"),
            step("goes-on", {"ref": "a", "onFailure": "continue"}),
            step("fails", "a", onParentFailure="fail"),
            step("cancelled", "a"),
        ],
    )
    flow.fail("a")
    assert flow.statuses() == {"a": "failed", "goes-on": "queued", "fails": "failed", "cancelled": "cancelled"}
    assert flow.read()["jobs"]["fails"]["error"]["code"] == "dependency_failed"
    flow.complete("goes-on")
    assert flow.read()["status"] == "failed"


def test_a_failure_that_everybody_tolerates_does_not_fail_the_workflow(
    client: FlaskClient, make_user: MakeUser
) -> None:
    flow = Flow(client, make_user(), [step("a"), step("b", {"ref": "a", "onFailure": "continue"})])
    flow.fail("a")
    flow.complete("b")
    assert flow.read()["status"] == "completed"


@pytest.mark.parametrize(
    ("steps", "field", "word"),
    [
        ([step("a", "b"), step("b", "c"), step("c", "a")], "steps", "circle"),
        ([step("a", "a")], "steps", "circle"),
        ([step("a"), step("a")], "steps.1.ref", "ref"),
        ([step("a", "z")], "steps.0.dependsOn", "no step z"),
        ([step("a"), {**step("b"), "payload": {}}], "steps.1.payload.steps", "required"),
        ([{**step("a"), "type": "nonsense"}], "steps.0.type", "Must be one of"),
        ([{**step("a"), "options": {"dependsOn": []}}], "steps.0.options.dependsOn", "Unknown"),
        ([], "steps", "Length"),
    ],
)
def test_what_is_no_workflow_is_refused_whole(
    client: FlaskClient, make_user: MakeUser, steps: list[Any], field: str, word: str
) -> None:
    user = make_user()
    answer = client.post("/api/workflows", json={"name": "x", "steps": steps}, headers=user.headers)
    assert answer.status_code == 422
    assert word in str(answer.get_json()["errors"][field])
    assert client.get("/api/jobs", headers=user.headers).get_json()["data"] == []
    assert client.get("/api/workflows", headers=user.headers).get_json()["data"] == []


def test_a_cancel_reaches_every_step(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    flow = Flow(client, user, DIAMOND)
    attempt = flow.begin("a")
    path = f"/api/workflows/{flow.id}"
    answer = client.delete(path, json={"reason": "no need"}, headers=user.headers)
    assert answer.status_code == 200
    assert flow.statuses() == {"a": "active", "b": "cancelled", "c": "cancelled", "d": "cancelled"}
    lifecycle.stop_job(flow.ids["a"], attempt)
    assert flow.read()["status"] == "cancelled"
    again = client.delete(path, headers=user.headers)
    assert (again.status_code, again.get_json()["code"]) == (409, "workflow_not_cancellable")


def test_a_retry_runs_what_did_not_complete_and_only_that(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    flow = Flow(client, user, DIAMOND)
    flow.complete("a", "b")
    flow.fail("c")
    assert flow.statuses()["d"] == "cancelled"
    answer = client.post(f"/api/workflows/{flow.id}/retry", headers=user.headers)
    assert answer.status_code == 202
    assert flow.statuses() == {"a": "completed", "b": "completed", "c": "queued", "d": "blocked"}
    assert flow.read()["status"] == "running"
    flow.complete("c")
    flow.complete("d")
    assert flow.read()["status"] == "completed"
    again = client.post(f"/api/workflows/{flow.id}/retry", headers=user.headers)
    assert (again.status_code, again.get_json()["code"]) == (409, "workflow_not_retryable")


def test_a_job_retried_by_hand_runs_its_workflow_again(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    flow = Flow(client, user, [step("a")])
    flow.fail("a")
    assert flow.read()["status"] == "failed"
    client.post(f"/api/jobs/{flow.ids['a']}/retry", headers=user.headers)
    assert flow.read()["status"] == "running"
    flow.complete("a")
    assert flow.read()["status"] == "completed"


def test_the_same_key_and_steps_are_one_workflow(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    headers = {**user.headers, "Idempotency-Key": "flow-1"}
    body = {"name": "Flow", "steps": DIAMOND}
    first = client.post("/api/workflows", json=body, headers=headers)
    again = client.post("/api/workflows", json=body, headers=headers)
    assert first.get_json()["id"] == again.get_json()["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    other = client.post("/api/workflows", json={**body, "steps": DIAMOND[:2]}, headers=headers)
    assert (other.status_code, other.get_json()["code"]) == (409, "idempotency_conflict")


def test_workflows_are_seen_by_their_owner_and_operators_of_the_tenant(
    client: FlaskClient, make_user: MakeUser
) -> None:
    owner = make_user()
    flow = Flow(client, owner, [step("a")])
    colleague = make_user(organization=owner.organization_id)
    operator = make_user(("operator",), owner.organization_id)
    stranger = make_user(("admin", "operator"))
    path = f"/api/workflows/{flow.id}"
    for method, where in (("GET", path), ("DELETE", path), ("POST", f"{path}/retry")):
        assert client.open(where, method=method, headers=colleague.headers).status_code == 403
        assert client.open(where, method=method, headers=stranger.headers).status_code == 404
    assert client.get(path, headers=operator.headers).status_code == 200
    for account, count in ((owner, 1), (colleague, 0), (operator, 1), (stranger, 0)):
        listed = client.get("/api/workflows?status=running", headers=account.headers).get_json()
        assert len(listed["data"]) == count


def test_parents_that_end_at_once_let_their_child_go_once(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    refs = [f"p{number}" for number in range(8)]
    flow = Flow(client, make_user(), [*[step(ref) for ref in refs], step("child", *refs)])
    attempts = {ref: flow.begin(ref) for ref in refs}
    barrier = threading.Barrier(len(refs))

    def end(ref: str) -> None:
        with app.app_context():
            barrier.wait()
            lifecycle.complete_job(flow.ids[ref], attempts[ref], {})

    threads = [threading.Thread(target=end, args=(ref,)) for ref in refs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    job = flow.read()["jobs"]["child"]
    assert (job["status"], job["version"]) == ("queued", 2)


def test_an_end_that_nobody_settled_is_found(client: FlaskClient, make_user: MakeUser) -> None:
    flow = Flow(client, make_user(), [step("a"), step("b", "a")])
    flow.begin("a")
    with transaction() as session:
        # As if the worker had died right after its commit.
        session.execute(
            text("UPDATE jobs SET status = 'completed', completed_at = now() WHERE id = :id"), {"id": flow.ids["a"]}
        )
    assert flow.statuses()["b"] == "blocked"
    while settle_ended():
        continue
    assert flow.statuses()["b"] == "queued"
    flow.begin("b")
    with transaction() as session:
        session.execute(
            text("UPDATE jobs SET status = 'completed', completed_at = now() WHERE id = :id"), {"id": flow.ids["b"]}
        )
    assert flow.read()["status"] == "running"
    finish_ended_workflows()
    db.session.rollback()
    assert flow.read()["status"] == "completed"


def test_a_job_waits_for_jobs_that_were_there(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()

    def submit(**options: Any) -> Any:
        return client.post("/api/jobs", json={**STEP, "options": options}, headers=user.headers)

    first, second = submit().get_json()["id"], submit().get_json()["id"]
    child = submit(dependsOn=[first, {"jobId": second, "onFailure": "continue"}])
    assert (child.status_code, child.get_json()["status"]) == (202, "blocked")
    start(UUID(first))
    lifecycle.complete_job(UUID(first), 1, {})
    start(UUID(second))
    lifecycle.fail_job(UUID(second), 1, PERMANENT)
    path = f"/api/jobs/{child.get_json()['id']}"
    assert client.get(path, headers=user.headers).get_json()["status"] == "queued"
    late = submit(dependsOn=[first]).get_json()["id"]
    assert client.get(f"/api/jobs/{late}", headers=user.headers).get_json()["status"] == "queued", "it has ended before"
    doomed = submit(dependsOn=[second]).get_json()["id"]
    assert client.get(f"/api/jobs/{doomed}", headers=user.headers).get_json()["status"] == "cancelled"
    later = submit(dependsOn=[first], delay=3600).get_json()["id"]
    assert client.get(f"/api/jobs/{later}", headers=user.headers).get_json()["status"] == "scheduled"


def test_nobody_waits_for_other_peoples_jobs(client: FlaskClient, make_user: MakeUser) -> None:
    theirs = client.post("/api/jobs", json=STEP, headers=make_user().headers).get_json()["id"]
    body = {**STEP, "options": {"dependsOn": [theirs]}}
    answer = client.post("/api/jobs", json=body, headers=make_user().headers)
    assert answer.status_code == 422
    assert theirs in str(answer.get_json()["errors"]["options.dependsOn"])


def test_a_blocked_job_is_cancelled_at_once_and_takes_its_children_with_it(
    client: FlaskClient, make_user: MakeUser
) -> None:
    user = make_user()
    flow = Flow(client, user, DIAMOND)
    assert client.delete(f"/api/jobs/{flow.ids['b']}", headers=user.headers).status_code == 200
    assert flow.statuses() == {"a": "queued", "b": "cancelled", "c": "blocked", "d": "cancelled"}
