"""`/api/dead-letters`: jobs that failed for good, read, grouped, replayed and discarded."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, text, update
from werkzeug.test import TestResponse

from service.audit.models import AuditEntry
from service.clock import utcnow
from service.database import db, fetch_all, transaction
from service.ids import new_id
from service.jobs import lifecycle
from service.jobs.actions import cancel_job
from service.jobs.models import Job
from service.jobs.submission import Submission, submit_jobs
from service.jobs.uniqueness import Unique
from tasks.jobs.operations.job_actions import job_actions
from tasks.testing import JobRun, run_job
from tests.conftest import Account, MakeUser
from tests.factories import confidential
from tests.factories.dead_letters import dead_letter, fail, submit
from tests.factories.jobs import start

pytestmark = pytest.mark.usefixtures("in_app")

Ask = Callable[..., TestResponse]
PATH = "/api/dead-letters"


@pytest.fixture
def ask(client: FlaskClient) -> Ask:
    """A request below `/api/dead-letters` in a user's name."""

    def send(user: Account, method: str, path: str = "", body: Any = None) -> TestResponse:
        return client.open(PATH + path, method=method, json=body, headers=user.headers)

    return send


def job(job_id: UUID | str) -> Job:
    """A job as it stands in the database now."""
    db.session.rollback()
    return db.session.scalars(
        select(Job).where(Job.id == UUID(str(job_id))).execution_options(populate_existing=True)
    ).one()


def bury(user: Account, messages: list[str], code: str = "boom", **options: Any) -> list[UUID]:
    """Many dead letters at once, a second between them, without running anything."""
    submission = Submission(**{"type": "demo-steps", "payload": {"steps": 1}, "delay": 60.0, **options})
    rows: list[Any] = []
    for begin in range(0, len(messages), 1000):
        part = messages[begin : begin + 1000]
        accepted = submit_jobs([submission for _ in part], organization_id=user.organization_id, user_id=user.id)
        rows += [
            {"id": str(each.row["id"]), "error": {"code": code, "message": message, "retryable": False}}
            for each, message in zip(accepted, part, strict=True)
        ]
    with transaction():
        fetch_all(
            """
            UPDATE jobs SET status = 'failed', attempt = 1, completed_at = now() + place * interval '1 s',
                error = it.error
            FROM jsonb_to_recordset(%(rows)s) AS it(id uuid, error jsonb, place int) WHERE jobs.id = it.id
            """,
            {"rows": json.dumps([{**row, "place": place} for place, row in enumerate(rows)])},
        )
    return [UUID(row["id"]) for row in rows]


def listed(answer: TestResponse) -> list[UUID]:
    """The ids of a page."""
    assert answer.status_code == 200, answer.get_json()
    return [UUID(each["id"]) for each in answer.get_json()["data"]]


def test_a_job_that_failed_for_good_is_listed_until_it_is_dealt_with(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    first, second = dead_letter(user, "No such file"), dead_letter(user)
    submit(user)
    cancel_job(submit(user))
    page = ask(user, "GET").get_json()
    assert [each["id"] for each in page["data"]] == [str(second), str(first)]
    assert page["pagination"]["total"] == 2
    assert page["data"][1]["error"] == {"code": "boom", "message": "No such file", "retryable": False}
    assert "payload" not in page["data"][1]
    ask(user, "POST", f"/{first}/replay")
    ask(user, "DELETE", f"/{second}")
    assert listed(ask(user, "GET")) == []


def test_the_filters_of_the_list(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    one = dead_letter(user, "disk 100% full", "no_space", name="Backup", tags=["nightly"])
    two = dead_letter(user, "timed out", "timeout", name="Report")
    assert listed(ask(user, "GET", "?code=no_space")) == [one]
    assert listed(ask(user, "GET", "?tag=nightly&type=demo-steps&queue=default")) == [one]
    assert listed(ask(user, "GET", "?q=report")) == [two]
    assert listed(ask(user, "GET", "?q=100%25")) == [one], "part of the error's message"
    assert listed(ask(user, "GET", "?until=2001-01-01T00:00:00Z")) == []
    assert listed(ask(user, "GET", f"?limit=1&cursor={two}")) == [one]
    assert ask(user, "GET", "?since=yesterday").status_code == 422


def test_others_see_nothing_and_operators_their_tenant(ask: Ask, make_user: MakeUser) -> None:
    owner = make_user()
    colleague = make_user(organization=owner.organization_id)
    operator = make_user(("operator",), organization=owner.organization_id)
    stranger = make_user(("admin",))
    job_id = dead_letter(owner)
    assert listed(ask(operator, "GET")) == [job_id]
    for user, status in ((colleague, 403), (stranger, 404)):
        assert listed(ask(user, "GET")) == []
        assert ask(user, "GET", "?group=true").get_json()["data"] == []
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/replay")):
            assert ask(user, method, f"/{job_id}{path}").status_code == status
        answer = ask(user, "POST", "/replay", {"ids": [str(job_id)]})
        assert (answer.get_json()["count"], answer.get_json()["skipped"]) == (0, 1)
        assert ask(user, "DELETE", "?all=true").get_json()["count"] == 0
    assert job(job_id).status == "failed"
    assert ask(operator, "POST", f"/{job_id}/replay").status_code == 202


def test_five_hundred_like_failures_are_one_group(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    alike = bury(
        user,
        [
            f"Order {number} of '{new_id()} & co' is not in \"/data/{number:x}/x.csv\" (request {new_id()}, "
            f"hash {number:040x})"
            for number in range(500)
        ],
    )
    others = [
        *bury(user, ["Can't read the host's answer", "Can't read the guest's answer"]),
        *bury(user, ["Order 7 is late"], code="late"),
        *bury(user, ["Order 7 is late"], code="late", type="job-actions", payload=CANCEL_ALL),
    ]
    answer = ask(user, "GET", "?group=true&limit=2").get_json()
    assert answer["complete"] is True
    assert answer["pagination"] == {"page": 1, "limit": 2, "total": 5, "totalPages": 3}
    group = answer["data"][0]
    assert (group["type"], group["code"], group["count"]) == ("demo-steps", "boom", 500)
    assert group["message"] == job(alike[-1]).error["message"], "of the newest"  # type: ignore[index]
    assert group["jobIds"] == [str(job_id) for job_id in reversed(alike[-5:])]
    assert group["firstAt"] < group["lastAt"]
    last = ask(user, "GET", "?group=true&limit=2&page=3").get_json()
    assert [each["count"] for each in last["data"]] == [1]
    # A group is found again by its fingerprint.
    assert listed(ask(user, "GET", f"?fingerprint={group['fingerprint']}&limit=100"))[0] == alike[-1]
    discarded = ask(user, "DELETE", f"?fingerprint={group['fingerprint']}")
    assert discarded.get_json() == {"count": 500, "skipped": 0}
    assert set(listed(ask(user, "GET"))) == set(others)


CANCEL_ALL = {"action": "cancel", "filter": {"all": True}}


def test_groups_take_the_filters_too(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    bury(user, ["one 1", "one 2", "two 1"])
    groups = ask(user, "GET", "?group=true&q=one").get_json()["data"]
    assert [(each["message"], each["count"]) for each in groups] == [("one 2", 2)]


def test_no_more_than_the_newest_hundred_thousand_are_grouped(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    (model,) = bury(user, ["Order 1 failed"])
    columns = ", ".join(column.name for column in Job.__table__.columns if column.name not in {"id", "error"})
    with transaction() as session:
        session.execute(
            text(
                f"""
                INSERT INTO jobs (id, error, {columns})
                SELECT derived_id(id, number::text), jsonb_build_object('code', 'boom', 'retryable', false, 'message',
                    'Order ' || number || ' failed at ' || md5(number::text) || ' with "' || number || '"'), {columns}
                FROM jobs, generate_series(1, 100000) AS number WHERE id = :id
                """
            ),
            {"id": model},
        )
    answer = ask(user, "GET", "?group=true").get_json()
    assert answer["data"][0]["count"] >= 99_999
    assert answer["complete"] is False
    with transaction() as session:
        session.execute(text("DELETE FROM jobs WHERE user_id = :id"), {"id": user.id})


def test_a_dead_letter_is_read_with_its_payload(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    operator = make_user(("operator",), organization=user.organization_id)
    job_id = dead_letter(user, payload={"steps": 7})
    for reader in (user, operator):
        answer = ask(reader, "GET", f"/{job_id}")
        assert (answer.status_code, answer.get_json()["payload"]) == (200, {"steps": 7})
    waiting = submit(user)
    answer = ask(user, "GET", f"/{waiting}")
    assert (answer.status_code, answer.get_json()["code"]) == (404, "dead_letter_not_found")


def test_a_sensitive_payload_is_never_shown(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    job_id = dead_letter(user, type=confidential.NAME, payload={"secret": "1234"})
    assert ask(user, "GET", f"/{job_id}").get_json()["payload"] is None
    replayed = ask(user, "POST", f"/{job_id}/replay", {"payload": {"secret": "4321"}})
    assert (replayed.status_code, replayed.get_json()["parentId"]) == (202, str(job_id))


def test_a_payload_of_a_type_that_is_gone_is_not_shown(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    job_id = dead_letter(user)
    with transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(type="no-longer"))
    assert ask(user, "GET", f"/{job_id}").get_json()["payload"] is None


def test_a_replay_queues_the_same_job_anew(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    job_id = dead_letter(user)
    answer = ask(user, "POST", f"/{job_id}/replay")
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/api/jobs/{job_id}"
    replayed = answer.get_json()
    assert (replayed["id"], replayed["status"], replayed["error"]) == (str(job_id), "queued", None)
    assert start(job_id, 2) is not None
    again = ask(user, "POST", f"/{job_id}/replay")
    assert (again.status_code, again.get_json()["code"]) == (409, "not_dead_letter")


def test_a_replay_with_another_payload_is_a_new_job_in_its_place(
    ask: Ask, client: FlaskClient, make_user: MakeUser
) -> None:
    user = make_user()
    operator = make_user(("operator",), organization=user.organization_id)
    options: dict[str, Any] = {
        "priority": 70,
        "tags": ["a"],
        "retry_limit": 5,
        "retry_delay": 3.0,
        "retry_strategy": "linear",
        "timeout": 99,
        "concurrency_key": "c",
        "notify": False,
    }
    job_id = dead_letter(user, name="Mine", payload={"steps": 1, "failAt": 1}, **options)
    answer = ask(operator, "POST", f"/{job_id}/replay", {"payload": {"steps": 2}})
    assert answer.status_code == 202, answer.get_json()
    new = answer.get_json()
    assert answer.headers["Location"] == f"/api/jobs/{new['id']}"
    assert (new["parentId"], new["name"], new["type"], new["status"]) == (str(job_id), "Mine", "demo-steps", "queued")
    row = job(new["id"])
    assert (row.user_id, row.payload, row.attempt) == (user.id, {"steps": 2}, 0)
    assert {name: getattr(row, name) for name in options} == options
    assert listed(ask(user, "GET")) == []
    old = client.get(f"/api/jobs/{job_id}", headers=user.headers).get_json()
    assert (old["status"], old["error"]["code"]) == ("failed", "boom"), "it stays in the history"
    assert ask(user, "POST", f"/{job_id}/replay", {"payload": {"steps": 2}}).status_code == 409


def test_a_payload_that_is_refused_leaves_the_dead_letter(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    job_id = dead_letter(user)
    answer = ask(user, "POST", f"/{job_id}/replay", {"payload": {"steps": 0}})
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, ["payload.steps"])
    assert ask(user, "POST", f"/{job_id}/replay", {"payload": 3}).status_code == 422
    assert listed(ask(user, "GET")) == [job_id]


def test_an_operator_edits_nothing_that_runs_with_an_administrators_rights(ask: Ask, make_user: MakeUser) -> None:
    admin = make_user(("admin",))
    operator = make_user(("operator",), organization=admin.organization_id)
    job_id = dead_letter(admin)
    edited = {"payload": {"steps": 2}}
    assert ask(operator, "POST", f"/{job_id}/replay", edited).status_code == 403
    assert listed(ask(operator, "GET")) == [job_id]
    assert ask(operator, "POST", f"/{job_id}/replay").status_code == 202, "what it was, it may be again"


def test_a_successor_holds_the_unique_key(ask: Ask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    job_id = dead_letter(user, unique=Unique(key="k", period=3600.0))
    new = ask(user, "POST", f"/{job_id}/replay", {"payload": {"steps": 2}})
    assert (new.status_code, new.get_json()["uniqueKey"]) == (202, "k")
    body = {"type": "demo-steps", "payload": {"steps": 1}, "options": {"singletonKey": "k"}}
    taken = client.post("/api/jobs", json=body, headers=user.headers)
    assert (taken.status_code, taken.get_json()["errors"]) == (409, {"jobId": [new.get_json()["id"]]})


def test_a_key_that_another_job_holds_is_in_the_way_of_a_replay(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    job_id = dead_letter(user, unique=Unique(key="k"))
    submit(user, unique=Unique(key="k"))
    for body in (None, {"payload": {"steps": 2}}):
        answer = ask(user, "POST", f"/{job_id}/replay", body)
        assert (answer.status_code, answer.get_json()["code"]) == (409, "duplicate_job")
    assert listed(ask(user, "GET")) == [job_id]


@pytest.mark.parametrize("body", [None, {"payload": {"steps": 2}}])
def test_of_two_replays_at_once_one_wins(app: Flask, ask: Ask, make_user: MakeUser, body: Any) -> None:
    user = make_user()
    for _ in range(5):
        job_id = dead_letter(user)
        barrier = threading.Barrier(2)
        found: list[int] = []

        def replay(job_id: UUID = job_id, barrier: threading.Barrier = barrier, found: list[int] = found) -> None:
            barrier.wait()
            found.append(ask(user, "POST", f"/{job_id}/replay", body).status_code)

        threads = [threading.Thread(target=replay) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == [202, 409]
        db.session.rollback()
        successors = db.session.scalars(select(Job.id).where(Job.parent_id == job_id)).all()
        assert len(successors) == (0 if body is None else 1)


def test_a_discarded_one_stays_in_the_history_and_can_be_retried(
    ask: Ask, client: FlaskClient, make_user: MakeUser
) -> None:
    user = make_user()
    job_id = dead_letter(user)
    assert ask(user, "DELETE", f"/{job_id}").status_code == 204
    again = ask(user, "DELETE", f"/{job_id}")
    assert (again.status_code, again.get_json()["code"]) == (409, "not_dead_letter")
    assert ask(user, "POST", f"/{job_id}/replay").status_code == 409
    assert client.get(f"/api/jobs/{job_id}", headers=user.headers).get_json()["status"] == "failed"
    assert client.post(f"/api/jobs/{job_id}/retry", headers=user.headers).status_code == 202
    fail(job_id, attempt=2)
    assert listed(ask(user, "GET")) == [job_id], "failed anew, it is a dead letter anew"


@pytest.mark.parametrize("query", ["", "?all=false", "?type=", "?all=true&type=demo-steps", "?typ=x", "?page=1"])
def test_what_is_discarded_is_said_clearly(ask: Ask, make_user: MakeUser, query: str) -> None:
    user = make_user()
    job_id = dead_letter(user)
    assert ask(user, "DELETE", query).status_code == 422
    assert listed(ask(user, "GET")) == [job_id]


def test_many_are_discarded_or_replayed(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    late = bury(user, ["late"] * 3, code="late")
    lost = bury(user, ["lost"] * 3, code="lost")
    taken = dead_letter(user, "lost", "lost", unique=Unique(key="k"))
    submit(user, unique=Unique(key="k"))
    assert ask(user, "DELETE", "?code=late").get_json() == {"count": 3, "skipped": 0}
    answer = ask(user, "POST", "/replay", {"filter": {"code": "lost"}}).get_json()
    assert (answer["count"], answer["skipped"], answer["errors"][0]["jobId"]) == (3, 1, str(taken))
    answer = ask(user, "POST", "/replay", {"ids": [str(job_id) for job_id in (late[0], taken)]}).get_json()
    assert [each["code"] for each in answer["errors"]] == ["not_dead_letter", "duplicate_job"]
    assert {job(job_id).status for job_id in lost} == {"queued"}
    entries = db.session.scalars(select(AuditEntry).where(AuditEntry.actor_id == user.id).order_by(AuditEntry.id)).all()
    assert [(entry.action, entry.details["count"]) for entry in entries] == [
        ("dead_letter.discard_many", 3),
        ("dead_letter.replay_many", 3),
        ("dead_letter.replay_many", 0),
    ]


@pytest.mark.parametrize(
    "body",
    [{}, {"filter": {}}, {"ids": []}, {"filter": {"all": True}, "ratePerSecond": 0}, {"filter": {"status": "failed"}}],
)
def test_what_is_replayed_is_said_clearly(ask: Ask, make_user: MakeUser, body: Any) -> None:
    assert ask(make_user(), "POST", "/replay", body).status_code == 422


def replay_by_a_job(ask: Ask, user: Account, body: Any) -> UUID:
    """Ask for a replay at a rate; the id of the job that does it, started."""
    answer = ask(user, "POST", "/replay", body)
    assert (answer.status_code, answer.get_json()["type"]) == (202, "job-actions")
    job_id = UUID(answer.get_json()["id"])
    assert start(job_id) is not None
    return job_id


def run(user: Account, job_id: UUID, attempt: int = 1, **options: Any) -> JobRun:
    """An attempt of the bulk job in this process."""
    owner = {"user_id": user.id, "organization_id": user.organization_id}
    payload = job(job_id).payload
    db.session.rollback()
    return run_job(job_actions, payload, job_id=job_id, attempt=attempt, **owner, **options)


def test_a_rate_is_kept_to(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    bury(user, ["late"] * 4)
    done = run(user, replay_by_a_job(ask, user, {"filter": {"type": "demo-steps"}, "ratePerSecond": 0.1}))
    assert done.result == {"count": 4, "skipped": 0}
    assert [report["current"] for report in done.progress] == [1, 2, 3, 4]
    # No time passes in this context while it sleeps: the n-th pause is the whole way from the start.
    assert done.slept == pytest.approx(10 + 20 + 30 + 40, rel=0.2)


def test_what_fails_again_at_once_is_not_replayed_again(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    buried = bury(user, ["late"] * 30)
    bulk_job = replay_by_a_job(ask, user, {"ids": [str(job_id) for job_id in buried], "ratePerSecond": 100})
    assert run(user, bulk_job, stop_after=1).status == "queued"
    replayed = [job_id for job_id in buried if job(job_id).status == "queued"]
    assert len(replayed) == 10
    for job_id in replayed:
        fail(job_id, attempt=2)
    lifecycle.lose_attempt(bulk_job, 1)
    assert start(bulk_job, 2) is not None
    assert run(user, bulk_job, 2).result == {"count": 30, "skipped": 0}
    assert [job(job_id).status for job_id in buried] == ["failed"] * 10 + ["queued"] * 20


def test_times_of_groups_are_utc(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    dead_letter(user)
    (group,) = ask(user, "GET", "?group=true").get_json()["data"]
    assert group["firstAt"].endswith("Z")
    assert group["firstAt"] <= utcnow().isoformat()
