"""`POST /api/jobs/actions`, and the job that deals with what is too much for a request."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, text, update
from werkzeug.test import TestResponse

from service.accounts.models import User
from service.audit.models import AuditEntry
from service.clock import utcnow
from service.database import db, transaction
from service.ids import new_id
from service.jobs import lifecycle
from service.jobs.actions import add_logs, retry_job
from service.jobs.bulk import AT_ONCE, CHUNK
from service.jobs.dependencies import Dependency
from service.jobs.errors import LeaseLost
from service.jobs.models import Job, JobExecution, JobLog
from service.jobs.submission import Submission, submit_jobs
from service.jobs.uniqueness import Unique
from service.notifications.models import Notification
from service.workflows.models import Workflow
from tasks.jobs.operations.job_actions import job_actions
from tasks.testing import JobRun, run_job
from tests.conftest import Account, MakeUser
from tests.factories.dead_letters import dead_letter, fail, submit
from tests.factories.jobs import start

pytestmark = pytest.mark.usefixtures("in_app")

Act = Callable[..., TestResponse]
Until = Callable[..., Any]


@pytest.fixture
def act(client: FlaskClient) -> Act:
    """Acts on many jobs."""

    def post(user: Account, action: str, **body: Any) -> TestResponse:
        if "ids" in body:
            body["ids"] = [str(job_id) for job_id in body["ids"]]
        return client.post("/api/jobs/actions", json={"action": action, **body}, headers=user.headers)

    return post


def submit_many(user: Account, count: int, **options: Any) -> list[UUID]:
    """So many waiting jobs, scheduled for later, so that nobody starts them."""
    submissions = [
        Submission(**{"type": "demo-steps", "payload": {"steps": 1}, "delay": 3600.0, **options}) for _ in range(count)
    ]
    accepted = []
    for begin in range(0, count, 1000):
        part = submissions[begin : begin + 1000]
        accepted += submit_jobs(part, organization_id=user.organization_id, user_id=user.id)
    return [UUID(str(each.row["id"])) for each in accepted]


def statuses(job_ids: list[UUID]) -> list[str]:
    """The present statuses of these jobs, in their order."""
    db.session.rollback()
    rows = db.session.execute(select(Job.id, Job.status).where(Job.id.in_(job_ids)))
    found = {row.id: row.status for row in rows}
    return [found.get(job_id, "gone") for job_id in job_ids]


def exists(model: Any, job_id: UUID) -> bool:
    """Whether a table knows of a job."""
    return bool(db.session.scalar(select(func.count()).select_from(model).where(model.job_id == job_id)))


def errors(answer: TestResponse) -> dict[UUID, str]:
    """The code by job."""
    return {UUID(each["jobId"]): each["code"] for each in answer.get_json()["errors"]}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "action"),
        ({"action": "cancel"}, "filter"),
        ({"action": "explode", "filter": {"all": True}}, "action"),
        ({"action": "cancel", "filter": {}}, "filter"),
        ({"action": "cancel", "filter": {"all": False}}, "filter.all"),
        ({"action": "cancel", "filter": {"all": True, "type": "demo-steps"}}, "filter"),
        ({"action": "cancel", "filter": {"type": ""}}, "filter.type"),
        ({"action": "cancel", "filter": {"typ": "demo-steps"}}, "filter.typ"),
        ({"action": "cancel", "filter": {"status": "strange"}}, "filter.status"),
        ({"action": "cancel", "ids": []}, "ids"),
        ({"action": "cancel", "ids": ["1"]}, "ids.0"),
        ({"action": "cancel", "ids": [str(new_id())] * (AT_ONCE + 1)}, "ids"),
        ({"action": "cancel", "ids": [str(new_id())], "filter": {"all": True}}, "filter"),
        ({"action": "discard", "filter": {"all": True}}, "action"),
    ],
)
def test_what_is_not_said_clearly_is_refused(
    client: FlaskClient, make_user: MakeUser, body: dict[str, Any], field: str
) -> None:
    user = make_user()
    job_id = submit(user)
    answer = client.post("/api/jobs/actions", json=body, headers=user.headers)
    assert (answer.status_code, answer.get_json()["code"]) == (422, "validation_failed")
    assert field in answer.get_json()["errors"], answer.get_json()
    assert statuses([job_id]) == ["queued"]


def test_waiting_jobs_are_cancelled_and_running_ones_asked_to_stop(act: Act, make_user: MakeUser) -> None:
    user = make_user()
    waiting, running, ended = submit(user, delay=60.0), submit(user), dead_letter(user)
    assert start(running) is not None
    answer = act(user, "cancel", filter={"all": True}, reason="no more")
    assert (answer.status_code, answer.get_json()) == (200, {"count": 2, "skipped": 0})
    assert statuses([waiting, running, ended]) == ["cancelled", "active", "failed"]
    rows = db.session.scalars(select(Job).where(Job.id.in_([waiting, running]))).all()
    assert {row.cancel_reason for row in rows} == {"no more"}
    assert all(row.cancel_requested_at for row in rows)


def test_each_owner_hears_of_each_job(act: Act, make_user: MakeUser) -> None:
    owner = make_user()
    operator = make_user(("operator",), organization=owner.organization_id)
    submit_many(owner, 3)
    submit_many(operator, 2)
    assert act(operator, "cancel", filter={"status": "delayed"}).get_json()["count"] == 5
    for user, count in ((owner, 3), (operator, 2)):
        query = select(func.count()).where(Notification.user_id == user.id, Notification.type == "job_cancelled")
        assert db.session.scalar(query) == count


def test_a_thousand_jobs_take_ten_transactions(act: Act, make_user: MakeUser) -> None:
    user = make_user()
    job_ids = submit_many(user, AT_ONCE)
    answer = act(user, "cancel", filter={"type": "demo-steps"})
    assert (answer.status_code, answer.get_json()) == (200, {"count": AT_ONCE, "skipped": 0})
    assert set(statuses(job_ids)) == {"cancelled"}
    transactions = db.session.scalar(
        text("SELECT count(DISTINCT xmin::text) FROM jobs WHERE user_id = :id"), {"id": user.id}
    )
    assert transactions == AT_ONCE // CHUNK


def test_ids_are_answered_for_one_by_one(act: Act, make_user: MakeUser) -> None:
    user = make_user()
    colleague = make_user(organization=user.organization_id)
    mine, ended, theirs, foreign, nobodys = (
        submit(user),
        dead_letter(user),
        submit(colleague),
        submit(make_user()),
        new_id(),
    )
    answer = act(user, "cancel", ids=[mine, ended, theirs, foreign, nobodys, mine])
    assert (answer.status_code, answer.get_json()["count"], answer.get_json()["skipped"]) == (200, 1, 4)
    assert errors(answer) == {
        ended: "job_not_cancellable",
        theirs: "not_allowed",
        foreign: "job_not_found",
        nobodys: "job_not_found",
    }
    assert statuses([mine, theirs, foreign]) == ["cancelled", "queued", "queued"]


def test_an_operator_reaches_the_tenant_and_a_user_himself(act: Act, make_user: MakeUser) -> None:
    user = make_user()
    operator = make_user(("operator",), organization=user.organization_id)
    theirs, foreign = submit(operator), submit(make_user())
    assert act(user, "cancel", filter={"all": True}).get_json()["count"] == 0
    mine = submit(user)
    assert act(operator, "cancel", filter={"all": True}).get_json()["count"] == 2
    assert statuses([mine, theirs, foreign]) == ["cancelled", "cancelled", "queued"]


def test_the_filters_are_those_of_the_list(act: Act, make_user: MakeUser) -> None:
    user = make_user()
    named, tagged, dull = submit(user, name="The 50% one"), submit(user, tags=["a", "b"]), submit(user)
    assert act(user, "cancel", filter={"q": "50%"}).get_json()["count"] == 1
    assert act(user, "cancel", filter={"tag": "b", "since": "2001-01-01T00:00:00Z"}).get_json()["count"] == 1
    assert act(user, "cancel", filter={"until": "2001-01-01T00:00:00Z"}).get_json()["count"] == 0
    assert act(user, "cancel", filter={"status": "active"}).get_json()["count"] == 0
    assert statuses([named, tagged, dull]) == ["cancelled", "cancelled", "queued"]


def test_failed_and_cancelled_jobs_are_queued_anew(act: Act, make_user: MakeUser) -> None:
    user = make_user()
    failed, waiting = dead_letter(user), submit(user, delay=60.0)
    act(user, "cancel", ids=[waiting])
    answer = act(user, "retry", filter={"all": True})
    assert answer.get_json() == {"count": 2, "skipped": 0}
    assert statuses([failed, waiting]) == ["queued", "queued"]
    rows = {row.id: row for row in db.session.scalars(select(Job).where(Job.user_id == user.id))}
    assert (rows[failed].max_attempts, rows[failed].error, rows[waiting].cancel_reason) == (5, None, None)
    assert start(failed, 2) is not None


def unique_jobs(user: Account, key: str, count: int) -> list[UUID]:
    """So many dead letters that had a unique key one after the other."""
    return [dead_letter(user, unique=Unique(key=key)) for _ in range(count)]


def test_whose_unique_key_is_taken_is_skipped_and_fails_nobody_else(act: Act, make_user: MakeUser) -> None:
    user = make_user()
    (held,) = unique_jobs(user, "held", 1)
    holder = submit(user, unique=Unique(key="held"))
    siblings = unique_jobs(user, "shared", 3)
    plain = dead_letter(user)
    answer = act(user, "retry", ids=[held, *siblings, plain])
    assert (answer.status_code, answer.get_json()["count"], answer.get_json()["skipped"]) == (200, 2, 3)
    assert errors(answer) == dict.fromkeys([held, *siblings[:2]], "duplicate_job")
    assert statuses([held, holder, *siblings, plain]) == ["failed", "queued", "failed", "failed", "queued", "queued"]


def test_a_period_that_has_run_out_holds_no_key(act: Act, make_user: MakeUser) -> None:
    user = make_user()
    failed = unique_jobs(user, "k", 1)[0]
    holder = submit(user, unique=Unique(key="k", period=3600.0))
    fail(holder)
    assert errors(act(user, "retry", ids=[failed])) == {failed: "duplicate_job"}
    with transaction() as session:
        session.execute(update(Job).where(Job.id == holder).values(unique_until=utcnow()))
    assert act(user, "retry", ids=[failed]).get_json() == {"count": 1, "skipped": 0}


def blocked() -> bool:
    """Whether a statement on jobs waits for a lock."""
    db.session.rollback()
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'EXECUTE%'")
    return bool(db.session.scalar(waiting))


def test_a_key_that_is_taken_at_this_moment_fails_nobody_else(
    app: Flask, act: Act, make_user: MakeUser, until: Until
) -> None:
    user = make_user()
    first, second = unique_jobs(user, "k", 2)
    others = [dead_letter(user) for _ in range(3)]
    may_commit, holds = threading.Event(), threading.Event()

    def take_it() -> None:
        with app.app_context(), transaction():
            retry_job(first)
            holds.set()
            assert may_commit.wait(20)

    answers: list[TestResponse] = []
    taker = threading.Thread(target=take_it)
    asker = threading.Thread(target=lambda: answers.append(act(user, "retry", ids=[second, *others])))
    taker.start()
    assert holds.wait(20)
    asker.start()
    until(blocked, "a retry that waits for the key")
    may_commit.set()
    taker.join()
    asker.join()
    (answer,) = answers
    assert (answer.get_json()["count"], errors(answer)) == (3, {second: "duplicate_job"})
    assert statuses([first, second, *others]) == ["queued", "failed", *["queued"] * 3]


def test_whoever_is_locked_in_another_order_is_dealt_with_too(
    app: Flask, act: Act, make_user: MakeUser, until: Until
) -> None:
    user = make_user()
    first, second = sorted(submit_many(user, 2))
    may_go, holds = threading.Event(), threading.Event()

    def lock_backwards() -> None:
        with app.app_context(), transaction() as session:
            session.execute(select(Job.id).where(Job.id == second).with_for_update())
            holds.set()
            assert may_go.wait(20)
            session.execute(select(Job.id).where(Job.id == first).with_for_update())

    answers: list[TestResponse] = []
    locker = threading.Thread(target=lock_backwards)
    asker = threading.Thread(target=lambda: answers.append(act(user, "cancel", ids=[first, second])))
    locker.start()
    assert holds.wait(20)
    asker.start()
    until(blocked, "a cancel that waits for the second job")
    may_go.set()
    locker.join()
    asker.join()
    assert answers[0].get_json() == {"count": 2, "skipped": 0}


def test_only_what_has_ended_is_deleted_with_its_history(act: Act, make_user: MakeUser) -> None:
    user = make_user()
    ended, waiting, running = dead_letter(user), submit(user, delay=60.0), submit(user)
    assert start(running) is not None
    add_logs(ended, 1, [("info", "hello", utcnow())])
    assert exists(JobExecution, ended)
    assert exists(JobLog, ended)
    answer = act(user, "delete", ids=[ended, waiting, running])
    assert (answer.get_json()["count"], answer.get_json()["skipped"]) == (1, 2)
    assert errors(answer) == dict.fromkeys([waiting, running], "job_not_deletable")
    assert statuses([ended, waiting, running]) == ["gone", "scheduled", "active"]
    assert not exists(JobExecution, ended)
    assert not exists(JobLog, ended)


def test_what_others_still_rest_on_is_not_deleted(act: Act, make_user: MakeUser) -> None:
    user = make_user()
    step, parent, read = dead_letter(user), dead_letter(user), dead_letter(user)
    reader = submit(user, depends_on=[Dependency(job_id=read, on_failure="continue")])
    assert statuses([reader]) == ["queued"]
    with transaction() as session:
        workflow = Workflow(organization_id=user.organization_id, user_id=user.id, name="w", status="running")
        session.add(workflow)
        session.flush()
        session.execute(update(Job).where(Job.id == step).values(workflow_id=workflow.id))
        # Ended, and nobody has told its child yet.
        session.execute(update(Job).where(Job.id == parent).values(has_dependents=True))
    answer = act(user, "delete", ids=[step, parent, read])
    assert (answer.get_json()["count"], set(errors(answer).values())) == (0, {"job_not_deletable"})
    with transaction() as session:
        session.execute(update(Workflow).where(Workflow.id == workflow.id).values(status="failed"))
        session.execute(update(Job).where(Job.id == parent).values(has_dependents=False))
    assert act(user, "cancel", ids=[reader]).get_json()["count"] == 1
    assert act(user, "delete", ids=[step, parent, read]).get_json() == {"count": 3, "skipped": 0}


def test_an_idempotency_key_of_a_deleted_job_is_answered(client: FlaskClient, act: Act, make_user: MakeUser) -> None:
    user = make_user()
    headers = {**user.headers, "Idempotency-Key": "abc"}
    body = {"type": "demo-steps", "payload": {"steps": 1}}
    job_id = UUID(client.post("/api/jobs", json=body, headers=headers).get_json()["id"])
    fail(job_id)
    assert act(user, "delete", ids=[job_id]).get_json()["count"] == 1
    again = client.post("/api/jobs", json=body, headers=headers)
    assert (again.status_code, again.get_json()["code"]) == (409, "idempotency_conflict")


def test_the_audit_log_keeps_what_was_asked_and_done(act: Act, make_user: MakeUser) -> None:
    user = make_user()
    submit_many(user, 2)
    act(user, "cancel", filter={"type": "demo-steps", "since": "2001-01-01T00:00:00Z"}, reason="why not")
    (entry,) = db.session.scalars(select(AuditEntry).where(AuditEntry.actor_id == user.id)).all()
    assert entry.action == "job.cancel_many"
    assert entry.details == {
        "filter": {"type": "demo-steps", "since": "2001-01-01T00:00:00+00:00"},
        "reason": "why not",
        "count": 2,
        "skipped": 0,
    }


def run(user: Account, job_id: UUID, attempt: int = 1, **options: Any) -> JobRun:
    """An attempt of the bulk job in this process, with the payload as it is by now."""
    db.session.rollback()
    payload = db.session.scalar(select(Job.payload).where(Job.id == job_id))
    db.session.rollback()
    owner = {"user_id": user.id, "organization_id": user.organization_id}
    return run_job(job_actions, payload, job_id=job_id, attempt=attempt, **owner, **options)


def ask_for_a_job(act: Act, user: Account, action: str = "cancel", **body: Any) -> UUID:
    """Ask for more than a request deals with; the id of the job that does it, started."""
    answer = act(user, action, **(body or {"filter": {"all": True}}))
    assert answer.status_code == 202, answer.get_json()
    job = answer.get_json()
    assert (job["type"], answer.headers["Location"]) == ("job-actions", f"/api/jobs/{job['id']}")
    assert start(UUID(job["id"])) is not None
    return UUID(job["id"])


def test_more_than_a_thousand_are_a_jobs_work(act: Act, make_user: MakeUser) -> None:
    user = make_user()
    job_ids = submit_many(user, AT_ONCE + 1)
    bulk_job = ask_for_a_job(act, user)
    assert set(statuses(job_ids)) == {"scheduled"}
    late = submit(user, delay=60.0)
    done = run(user, bulk_job)
    assert done.result == {"count": AT_ONCE + 1, "skipped": 0}
    assert set(statuses(job_ids)) == {"cancelled"}
    assert statuses([bulk_job, late]) == ["active", "scheduled"], "neither itself nor what comes after it"
    told = [(report["current"], report["total"]) for report in done.progress]
    assert told == [(min(number * CHUNK, AT_ONCE + 1), AT_ONCE + 1) for number in range(1, 12)]
    (entry,) = db.session.scalars(select(AuditEntry).where(AuditEntry.actor_id == user.id)).all()
    assert (entry.action, entry.target_id, entry.details["count"]) == ("job.cancel_many", str(bulk_job), AT_ONCE + 1)


def test_a_cancelled_bulk_job_stops_between_its_steps(act: Act, make_user: MakeUser) -> None:
    user = make_user()
    job_ids = submit_many(user, AT_ONCE + 1)
    bulk_job = ask_for_a_job(act, user)
    run(user, bulk_job, cancel_after=2).assert_cancelled()
    assert statuses(job_ids).count("cancelled") == 3 * CHUNK
    (entry,) = db.session.scalars(select(AuditEntry).where(AuditEntry.actor_id == user.id)).all()
    assert entry.details["count"] == 3 * CHUNK


def test_a_second_attempt_goes_on_where_the_first_one_stopped(act: Act, make_user: MakeUser) -> None:
    user = make_user()
    job_ids = submit_many(user, AT_ONCE + 1)
    bulk_job = ask_for_a_job(act, user)
    assert run(user, bulk_job, stop_after=2).status == "queued"
    assert statuses(job_ids).count("cancelled") == 2 * CHUNK
    # Somebody wants one of the first ones after all; the job is past it.
    retry_job(job_ids[0])
    lifecycle.lose_attempt(bulk_job, 1)
    assert start(bulk_job, 2) is not None
    assert run(user, bulk_job, 2).result == {"count": AT_ONCE + 1, "skipped": 0}
    assert statuses(job_ids).count("cancelled") == AT_ONCE
    assert statuses(job_ids[:1]) == ["queued"]


def test_an_attempt_that_was_given_away_deals_with_nothing(act: Act, make_user: MakeUser) -> None:
    user = make_user()
    job_ids = submit_many(user, AT_ONCE + 1)
    bulk_job = ask_for_a_job(act, user)
    lifecycle.lose_attempt(bulk_job, 1)
    assert start(bulk_job, 2) is not None
    with pytest.raises(LeaseLost):
        run(user, bulk_job)
    assert set(statuses(job_ids)) == {"scheduled"}


def test_whoever_is_no_operator_any_more_acts_on_nobody(act: Act, make_user: MakeUser) -> None:
    user = make_user()
    operator = make_user(("operator",), organization=user.organization_id)
    job_ids = submit_many(user, AT_ONCE + 1)
    bulk_job = ask_for_a_job(act, operator)
    with transaction() as session:
        session.execute(update(User).where(User.id == operator.id).values(roles=["user"]))
    run(operator, bulk_job).assert_failed("not_allowed")
    assert set(statuses(job_ids)) == {"scheduled"}


def test_nobody_submits_what_he_may_not_do(client: FlaskClient, make_user: MakeUser) -> None:
    payload = {"action": "cancel", "filter": {"all": True}, "scope": "organization"}
    for roles, status in ((("user",), 403), (("operator",), 202)):
        answer = client.post(
            "/api/jobs", json={"type": "job-actions", "payload": payload}, headers=make_user(roles).headers
        )
        assert answer.status_code == status, answer.get_json()


def test_nobody_says_how_far_a_bulk_job_has_come_but_itself(client: FlaskClient, make_user: MakeUser) -> None:
    reached = {"after": str(new_id()), "count": 10**6, "skipped": 0}
    body = {"type": "job-actions", "payload": {"action": "cancel", "filter": {"all": True}, "reached": reached}}
    answer = client.post("/api/jobs", json=body, headers=make_user().headers)
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, ["payload.reached"])


def test_a_bulk_job_of_a_plain_user_leaves_the_others_alone(act: Act, make_user: MakeUser) -> None:
    user = make_user()
    theirs = submit(make_user(organization=user.organization_id), delay=60.0)
    submit_many(user, AT_ONCE + 1)
    bulk_job = ask_for_a_job(act, user)
    # Whoever becomes an operator meanwhile has asked as a user.
    with transaction() as session:
        session.execute(update(User).where(User.id == user.id).values(roles=["operator"]))
    assert run(user, bulk_job).result["count"] == AT_ONCE + 1
    assert statuses([theirs]) == ["scheduled"]
