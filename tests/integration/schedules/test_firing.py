"""The tick: due times lead to jobs, once, whatever else is the matter."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, func, select

from service.audit.models import AuditEntry
from service.clock import isoformat, utcnow
from service.database import db, transaction
from service.ids import new_id
from service.jobs import lifecycle, registry
from service.jobs.models import Job
from service.schedules.firing import BATCH, FAILURES_ALLOWED, run_due
from service.schedules.models import Schedule, ScheduleRun
from service.schedules.runs import RUNS_KEPT
from tests.conftest import MakeUser
from tests.factories.jobs import start
from tests.integration.schedules.conftest import MakeSchedule, came_due, jobs_of

HOUR = 3600


def tick(app: Flask) -> None:
    """What beat has done each second."""
    with app.app_context():
        run_due()


def change(app: Flask, schedule: Any, **columns: Any) -> None:
    """Change the row of a schedule past its API."""
    with app.app_context(), transaction() as session:
        row = session.get_one(Schedule, UUID(schedule["id"]))
        for name, value in columns.items():
            setattr(row, name, value)


def read(client: FlaskClient, user: Any, schedule: Any) -> Any:
    """A schedule as it is now."""
    return client.get(f"/api/schedules/{schedule['id']}", headers=user.headers).json


def runs(client: FlaskClient, user: Any, schedule: Any) -> list[Any]:
    """What became of its times, the oldest first."""
    answer = client.get(f"/api/schedules/{schedule['id']}/runs?limit=100", headers=user.headers)
    data: list[Any] = answer.json["data"]
    return data[::-1]


def outcomes(client: FlaskClient, user: Any, schedule: Any) -> list[str]:
    """The outcomes of its times, the oldest first."""
    return [each["outcome"] for each in runs(client, user, schedule)]


def test_a_due_time_leads_to_one_job(
    app: Flask, client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    user = make_user()
    made = make_schedule(user, name="Mine", intervalSeconds=HOUR, payload={"steps": 2}, options={"tags": ["x"]})
    tick(app)
    assert jobs_of(app, made) == [], "its time has not come"
    due = came_due(app, made)
    for _ in range(3):
        tick(app)
    (job,) = jobs_of(app, made)
    assert (job.name, job.type, job.payload, job.tags) == ("Mine", "demo-steps", {"steps": 2}, ["x"])
    assert (job.user_id, job.organization_id, job.status) == (user.id, user.organization_id, "queued")
    after = read(client, user, made)
    assert after["lastJobId"] == str(job.id)
    assert datetime.fromisoformat(after["lastRunAt"]) >= due
    assert after["nextRunAt"] == isoformat(due + timedelta(seconds=HOUR))
    (run,) = runs(client, user, made)
    assert (run["fireTime"], run["outcome"], run["jobId"]) == (isoformat(due), "submitted", str(job.id))


def test_a_cron_schedule_moves_on_to_its_next_time(
    app: Flask, client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    user = make_user()
    made = make_schedule(user, cron="* * * * *")
    this_minute = utcnow().replace(second=0, microsecond=0)
    change(app, made, next_run_at=this_minute)
    tick(app)
    assert len(jobs_of(app, made)) == 1
    following = datetime.fromisoformat(read(client, user, made)["nextRunAt"])
    assert following - this_minute in {timedelta(minutes=1), timedelta(minutes=2)}


def test_ticks_at_the_same_moment_submit_each_job_once(
    app: Flask, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    user = make_user()
    schedules = [make_schedule(user, name=str(number), intervalSeconds=HOUR) for number in range(40)]
    for each in schedules:
        came_due(app, each)
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        tick(app)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with app.app_context():
        jobs = Counter(db.session.scalars(select(Job.schedule_id).where(Job.user_id == user.id)))
        noted = db.session.scalar(select(func.count()).select_from(ScheduleRun).where(ScheduleRun.job_id.is_not(None)))
    assert jobs == Counter({UUID(each["id"]): 1 for each in schedules})
    assert noted == len(schedules)


def test_a_tick_that_dies_in_the_middle_leaves_nothing_and_the_next_one_submits(
    app: Flask, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    made = make_schedule(make_user(), intervalSeconds=HOUR)
    came_due(app, made)

    class Killed(BaseException):
        pass

    commits: list[Any] = []

    def die(session: Any) -> None:
        commits.append(session)
        # The first only looked what is due.
        if len(commits) == 2:
            raise Killed

    event.listen(db.session, "before_commit", die)
    try:
        with pytest.raises(Killed):
            tick(app)
    finally:
        event.remove(db.session, "before_commit", die)
    assert jobs_of(app, made) == []
    tick(app)
    tick(app)
    assert len(jobs_of(app, made)) == 1


def test_a_time_that_was_run_is_not_run_again_by_a_clock_that_went_back(
    app: Flask, client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    user = make_user()
    made = make_schedule(user, intervalSeconds=HOUR, overlapPolicy="allow")
    due = came_due(app, made)
    tick(app)
    after = read(client, user, made)
    change(app, made, next_run_at=due)
    tick(app)
    assert len(jobs_of(app, made)) == 1
    assert read(client, user, made) == after


def test_a_schedule_that_somebody_holds_is_left_to_the_next_tick(
    app: Flask, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    user = make_user()
    held = make_schedule(user, name="held", intervalSeconds=HOUR)
    other = make_schedule(user, name="other", intervalSeconds=HOUR)
    for each in (held, other):
        came_due(app, each)
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(select(Schedule.id).where(Schedule.id == UUID(held["id"])).with_for_update())
        tick(app)
    assert (len(jobs_of(app, held)), len(jobs_of(app, other))) == (0, 1)
    tick(app)
    assert (len(jobs_of(app, held)), len(jobs_of(app, other))) == (1, 1)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("skip", []), ("once", [5]), ("all", [2, 3, 4, 5])],
)
def test_times_that_passed_while_nobody_looked(
    app: Flask,
    client: FlaskClient,
    make_user: MakeUser,
    make_schedule: MakeSchedule,
    policy: str,
    expected: list[int],
) -> None:
    user = make_user()
    made = make_schedule(user, intervalSeconds=600, misfirePolicy=policy, misfireLimit=4, overlapPolicy="allow")
    # Six times have passed, the last of them five minutes ago.
    first = came_due(app, made, timedelta(seconds=5 * 600 + 300))
    tick(app)
    tick(app)
    fired = [isoformat(first + timedelta(seconds=600 * number)) for number in expected]
    assert [each["fireTime"] for each in runs(client, user, made)] == fired
    assert len(jobs_of(app, made)) == len(expected)
    assert read(client, user, made)["nextRunAt"] == isoformat(first + timedelta(seconds=6 * 600))


def test_jobs_that_overlap_are_allowed_where_the_policy_says_so(
    app: Flask, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    made = make_schedule(make_user(), intervalSeconds=HOUR, overlapPolicy="allow")
    for _ in range(3):
        came_due(app, made)
        tick(app)
    assert [job.status for job in jobs_of(app, made)] == ["queued"] * 3


def test_a_time_is_skipped_while_a_job_has_not_ended(
    app: Flask, client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    user = make_user()
    made = make_schedule(user, intervalSeconds=HOUR, overlapPolicy="skip")
    for _ in range(2):
        came_due(app, made)
        tick(app)
    (job,) = jobs_of(app, made)
    with app.app_context():
        start(job.id)
        lifecycle.complete_job(job.id, 1, None)
    came_due(app, made)
    tick(app)
    assert [each.status for each in jobs_of(app, made)] == ["completed", "queued"]
    assert outcomes(client, user, made) == ["submitted", "skipped", "submitted"]
    assert read(client, user, made)["lastError"] is None


def test_one_job_waits_in_the_buffer(
    app: Flask, client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    user = make_user()
    made = make_schedule(user, intervalSeconds=HOUR, overlapPolicy="buffer")
    for _ in range(3):
        came_due(app, made)
        tick(app)
    first, waiting = jobs_of(app, made)
    assert (first.status, waiting.status) == ("queued", "blocked")
    assert outcomes(client, user, made) == ["submitted", "submitted", "skipped"]
    with app.app_context():
        start(first.id)
        lifecycle.fail_job(first.id, 1, {"code": "x", "message": "x", "retryable": False})
    assert [each.status for each in jobs_of(app, made)] == ["failed", "queued"], "however the first one ended"
    came_due(app, made)
    tick(app)
    assert [each.status for each in jobs_of(app, made)] == ["failed", "queued", "blocked"]


def test_the_next_job_cancels_one_that_waits(app: Flask, make_user: MakeUser, make_schedule: MakeSchedule) -> None:
    made = make_schedule(make_user(), intervalSeconds=HOUR, overlapPolicy="cancel")
    for _ in range(2):
        came_due(app, made)
        tick(app)
    first, second = jobs_of(app, made)
    assert (first.status, second.status) == ("cancelled", "queued")
    assert first.cancel_reason == "The next run of its schedule has come."


def test_the_next_job_cancels_one_that_runs_and_begins_when_it_has_stopped(
    app: Flask, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    made = make_schedule(make_user(), intervalSeconds=HOUR, overlapPolicy="cancel")
    came_due(app, made)
    tick(app)
    (running,) = jobs_of(app, made)
    with app.app_context():
        start(running.id)
    for _ in range(2):
        came_due(app, made)
        tick(app)
    jobs = jobs_of(app, made)
    assert [each.status for each in jobs] == ["active", "cancelled", "blocked"]
    assert jobs[0].cancel_requested_at is not None
    with app.app_context():
        lifecycle.stop_job(running.id, 1)
    assert [each.status for each in jobs_of(app, made)] == ["cancelled", "cancelled", "queued"]


def test_broken_schedules_stop_no_other_and_are_paused_in_the_end(
    app: Flask,
    client: FlaskClient,
    make_user: MakeUser,
    make_schedule: MakeSchedule,
) -> None:
    user = make_user()
    gone = make_schedule(user, name="gone", intervalSeconds=HOUR)
    odd = make_schedule(user, name="odd", intervalSeconds=HOUR, options={"priority": 3})
    nowhere = make_schedule(user, name="nowhere", cron="@daily")
    sound = make_schedule(user, name="sound", intervalSeconds=HOUR, overlapPolicy="allow")
    # As after a deploy that knows less: a type, an option, a time zone.
    change(app, gone, type="no-such-type")
    change(app, odd, options={"colour": "red"})
    change(app, nowhere, timezone="Middle/Earth", next_run_at=utcnow())
    for _ in range(FAILURES_ALLOWED - 1):
        for each in (gone, odd, sound):
            came_due(app, each)
        tick(app)
    assert len(jobs_of(app, sound)) == FAILURES_ALLOWED - 1
    assert jobs_of(app, gone) == jobs_of(app, odd) == jobs_of(app, nowhere) == []
    broken = read(client, user, gone)
    assert broken["lastError"].startswith("There is no job type of this name.")
    assert (broken["failures"], broken["pausedAt"]) == (FAILURES_ALLOWED - 1, None)
    assert datetime.fromisoformat(broken["nextRunAt"]) > utcnow()
    assert read(client, user, odd)["lastError"] == "Some fields are not valid. options.colour: Unknown field."
    assert outcomes(client, user, gone) == ["failed"] * (FAILURES_ALLOWED - 1)
    assert read(client, user, nowhere)["pausedAt"] is not None
    assert "Middle/Earth" in read(client, user, nowhere)["lastError"]
    came_due(app, gone)
    tick(app)
    paused = read(client, user, gone)
    assert paused["failures"] == FAILURES_ALLOWED
    assert (paused["nextRunAt"], paused["pausedAt"] is None) == (None, False)
    with app.app_context():
        query = select(AuditEntry).where(AuditEntry.target_id == gone["id"], AuditEntry.action == "schedule.pause")
        (entry,) = db.session.scalars(query)
    assert (entry.actor_id, entry.organization_id) == (None, user.organization_id)
    change(app, gone, type="demo-steps")
    resumed = client.post(f"/api/schedules/{gone['id']}/resume", headers=user.headers).json
    assert resumed["failures"] == 0


def test_an_error_that_nobody_expected_is_noted_without_its_words(
    app: Flask,
    client: FlaskClient,
    make_user: MakeUser,
    make_schedule: MakeSchedule,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user = make_user()
    made = make_schedule(user, intervalSeconds=HOUR)

    def refuse(user_id: UUID, payload: object) -> None:
        raise RuntimeError("secret words")

    with monkeypatch.context() as patch:
        patch.setitem(vars(registry.get_job_type("demo-steps")), "check", refuse)
        came_due(app, made)
        tick(app)
    after = read(client, user, made)
    assert (after["lastError"], after["failures"]) == ("Something went wrong on our side.", 1)
    came_due(app, made)
    tick(app)
    after = read(client, user, made)
    assert (after["lastError"], after["failures"], len(jobs_of(app, made))) == (None, 0, 1)


def test_a_deactivated_owners_schedule_does_not_run(
    app: Flask, client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    user = make_user()
    admin = make_user(("admin",), organization=user.organization_id)
    made = make_schedule(user, intervalSeconds=HOUR)
    client.patch(f"/api/admin/users/{user.id}", json={"isActive": False}, headers=admin.headers)
    came_due(app, made)
    tick(app)
    assert jobs_of(app, made) == []
    after = read(client, admin, made)
    assert after["lastError"] == "The account of the schedule's owner is deactivated."
    client.patch(f"/api/admin/users/{user.id}", json={"isActive": True}, headers=admin.headers)
    came_due(app, made)
    tick(app)
    assert len(jobs_of(app, made)) == 1


@pytest.mark.parametrize(
    ("mode", "expected"), [("reject", ["submitted", "skipped"]), ("existing", ["submitted", "existing"])]
)
def test_a_unique_key_that_is_held_is_no_failure(
    app: Flask,
    client: FlaskClient,
    make_user: MakeUser,
    make_schedule: MakeSchedule,
    mode: str,
    expected: list[str],
) -> None:
    user = make_user()
    options = {"singletonKey": "report", "unique": {"mode": mode}}
    made = make_schedule(user, intervalSeconds=HOUR, overlapPolicy="allow", options=options)
    for _ in range(2):
        came_due(app, made)
        tick(app)
    assert outcomes(client, user, made) == expected
    (job,) = jobs_of(app, made)
    after = read(client, user, made)
    assert (after["failures"], after["lastJobId"], after["lastError"]) == (0, str(job.id), None)


def test_a_paused_schedule_does_not_run(
    app: Flask, client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    user = make_user()
    made = make_schedule(user, intervalSeconds=HOUR, misfirePolicy="all")
    came_due(app, made, timedelta(hours=5, minutes=30))
    client.post(f"/api/schedules/{made['id']}/pause", headers=user.headers)
    tick(app)
    client.post(f"/api/schedules/{made['id']}/resume", headers=user.headers)
    tick(app)
    assert jobs_of(app, made) == [], "what passed in the pause was not missed"


def test_the_newest_runs_are_kept(
    app: Flask, client: FlaskClient, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    user = make_user()
    made, other = (make_schedule(user, name=name, intervalSeconds=HOUR) for name in ("one", "two"))
    with app.app_context(), transaction() as session:
        for schedule in (made, other):
            session.add_all(
                ScheduleRun(id=new_id(), schedule_id=UUID(schedule["id"]), outcome="skipped")
                for _ in range(RUNS_KEPT + 5)
            )
    came_due(app, made)
    tick(app)
    kept = client.get(f"/api/schedules/{made['id']}/runs", headers=user.headers).json
    assert kept["pagination"]["total"] == RUNS_KEPT
    assert kept["data"][0]["outcome"] == "submitted"
    theirs = client.get(f"/api/schedules/{other['id']}/runs", headers=user.headers).json
    assert theirs["pagination"]["total"] == RUNS_KEPT + 5


def test_many_due_schedules_are_dealt_with_in_one_tick(
    app: Flask, make_user: MakeUser, make_schedule: MakeSchedule
) -> None:
    user = make_user()
    made = make_schedule(user, intervalSeconds=HOUR)
    due = came_due(app, made)
    with app.app_context(), transaction() as session:
        row = session.get_one(Schedule, UUID(made["id"]))
        columns = {each.key: getattr(row, each.key) for each in Schedule.__table__.columns}
        session.add_all(
            Schedule(**columns | {"id": new_id(), "name": f"copy {number}", "next_run_at": due})
            for number in range(BATCH + 20)
        )
    tick(app)
    with app.app_context():
        assert db.session.scalar(select(func.count()).where(Job.user_id == user.id)) == BATCH + 21
