"""What is older than it is to be kept goes, with all that belongs to it; everything else stays."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.engine import Connection

from service.artifacts.actions import leave_artifact
from service.artifacts.models import Artifact, UnlistedFile
from service.clock import utcnow
from service.database import db, transaction
from service.events import JobRow
from service.ids import first_id_at, new_id
from service.jobs import lifecycle
from service.jobs.actions import add_logs
from service.jobs.dependencies import Dependency
from service.jobs.models import IdempotencyKey, Job, JobDependency, JobExecution, JobLog
from service.jobs.submission import Submission, submit_job
from service.jobs.uniqueness import THROTTLE, Unique
from service.notifications.counts import count_unread, unread_count
from service.notifications.models import ChannelMessage, Notification
from service.operations import retention
from service.operations.partitions import create_partitions
from service.operations.retention import prune
from service.webhooks.models import WebhookAttempt, WebhookDelivery
from service.workflows.models import Workflow
from tests.conftest import Account, MakeUser
from tests.factories.jobs import start

pytestmark = pytest.mark.usefixtures("in_app")

MakeJob = Callable[..., UUID]


def days_ago(days: float) -> datetime:
    return utcnow() - timedelta(days=days)


def id_of(moment: datetime) -> UUID:
    """An id as one that was made then."""
    return UUID(int=first_id_at(moment).int | new_id().int % 2**62)


@pytest.fixture
def user(make_user: MakeUser) -> Account:
    """Whose jobs these are."""
    return make_user()


@pytest.fixture
def make_job(user: Account) -> MakeJob:
    """Makes a job that was submitted so many days ago, and unless it is told not to, completed as long ago."""

    def make(days: float, *, ends: bool = True, **options: Any) -> UUID:
        submission = Submission(type="demo-steps", payload={"steps": 1}, id=id_of(days_ago(days)), **options)
        row = submit_job(submission, organization_id=user.organization_id, user_id=user.id).row
        job_id = UUID(str(row["id"]))
        if ends:
            end(job_id, days)
        return job_id

    return make


def end(job_id: UUID, days: float) -> None:
    """Complete a job, so many days ago."""
    start(job_id)
    lifecycle.complete_job(job_id, 1, None)
    with transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(completed_at=days_ago(days)))


def leave(job: JobRow, name: str) -> Artifact:
    """Leave an artifact as a worker does."""
    return leave_artifact(
        job, name, b"1", content_type=None, expires_in=None, go_on=lambda: None, keep_trying=lambda write: write()
    )


def folder_of(app: Flask, user: Account, job_id: UUID) -> Path:
    """Where a job's files lie."""
    root = app.extensions["carillon_settings"].artifacts_url.removeprefix("file://")
    return Path(root) / str(user.organization_id) / str(job_id)


def there(model: Any, *conditions: Any) -> int:
    """How many rows there are."""
    with transaction() as session:
        return session.scalar(select(func.count()).select_from(model).where(*conditions)) or 0


def is_there(job_id: UUID) -> bool:
    return there(Job, Job.id == job_id) == 1


def test_a_job_goes_with_all_that_belongs_to_it(app: Flask, user: Account, make_job: MakeJob) -> None:
    job_id = make_job(31, ends=False)
    row = start(job_id)
    assert row is not None
    for name in ("a", "b"):
        leave(row, name)
    add_logs(job_id, 1, [("info", "a line", utcnow())])
    end(job_id, 31)
    folder = folder_of(app, user, job_id)
    assert len(list(folder.iterdir())) == 2

    counts = prune()
    assert counts["jobs"] >= 1
    assert counts["files"] >= 2
    for model in (Artifact, JobLog, JobExecution, UnlistedFile):
        assert there(model, model.job_id == job_id) == 0
    assert not is_there(job_id)
    assert not folder.exists()


def test_age_is_counted_from_the_end(make_job: MakeJob) -> None:
    old, young = make_job(40), make_job(40)
    with transaction() as session:
        session.execute(update(Job).where(Job.id == young).values(completed_at=days_ago(29.9)))
    prune()
    assert [is_there(old), is_there(young)] == [False, True]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_however_a_job_ended_it_goes(make_job: MakeJob, status: str) -> None:
    job_id = make_job(31)
    with transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(status=status))
    prune()
    assert not is_there(job_id)


def test_what_has_not_ended_stays_however_old_it_is(make_job: MakeJob) -> None:
    waiting, running = make_job(400, ends=False), make_job(400, ends=False)
    start(running)
    prune()
    assert [is_there(waiting), is_there(running)] == [True, True]


def test_the_setting_says_how_long(app: Flask, make_job: MakeJob) -> None:
    job_id = make_job(3)
    usual = app.extensions["carillon_settings"]
    app.extensions["carillon_settings"] = replace(usual, job_retention_days=2)
    try:
        prune()
    finally:
        app.extensions["carillon_settings"] = usual
    assert not is_there(job_id)


def test_a_job_stays_until_what_depends_on_it_has_ended(make_job: MakeJob) -> None:
    parent, other = make_job(50), make_job(50, ends=False)
    child = make_job(40, ends=False, depends_on=[Dependency(job_id=parent), Dependency(job_id=other)])
    prune()
    assert is_there(parent)
    end(other, 40)
    prune()
    assert [is_there(parent), is_there(other), is_there(child)] == [True, True, True]
    end(child, 29)
    prune()
    assert [is_there(parent), is_there(other), is_there(child)] == [False, False, True]
    assert there(JobDependency, JobDependency.job_id == child) == 0


def test_a_job_that_somebody_just_made_another_wait_for_stays(app: Flask, user: Account, make_job: MakeJob) -> None:
    parent = make_job(31)
    other = make_job(1, ends=False)
    pruned = threading.Thread(target=in_thread(app, prune))
    with transaction():
        submission = Submission(
            type="demo-steps",
            payload={"steps": 1},
            depends_on=[Dependency(job_id=parent), Dependency(job_id=other)],
        )
        child = submit_job(submission, organization_id=user.organization_id, user_id=user.id).row
        # Neither waits for the submission, which holds the parent, nor takes it away.
        pruned.start()
        pruned.join(20)
        assert not pruned.is_alive()
    prune()
    assert is_there(parent)
    assert there(JobDependency, JobDependency.job_id == UUID(str(child["id"]))) == 2


def test_the_jobs_of_a_workflow_go_together_and_it_with_them(user: Account, make_job: MakeJob) -> None:
    workflow_id = id_of(days_ago(60))
    with transaction() as session:
        session.add(
            Workflow(
                id=workflow_id,
                organization_id=user.organization_id,
                user_id=user.id,
                name="w",
                status="completed",
                completed_at=days_ago(29),
            )
        )
    first, last = make_job(60, workflow_id=workflow_id), make_job(59, workflow_id=workflow_id)
    with transaction() as session:
        session.execute(update(Job).where(Job.id == last).values(completed_at=days_ago(29)))
    prune()
    assert [is_there(first), is_there(last)] == [True, True]
    with transaction() as session:
        session.execute(update(Job).where(Job.id == last).values(completed_at=days_ago(31)))
    counts = prune()
    assert [is_there(first), is_there(last)] == [False, False]
    assert there(Workflow, Workflow.id == workflow_id) == 0
    assert counts["workflows"] >= 1


def test_a_job_that_keeps_others_from_being_submitted_stays(make_job: MakeJob) -> None:
    unique = Unique(key=str(new_id()), mode=THROTTLE, period=3600)
    job_id = make_job(31, unique=unique)
    prune()
    assert is_there(job_id)
    with transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(unique_until=days_ago(1)))
    prune()
    assert not is_there(job_id)


def test_a_key_leads_to_no_job_that_is_gone(app: Flask, user: Account) -> None:
    usual = app.extensions["carillon_settings"]
    app.extensions["carillon_settings"] = replace(usual, job_retention_days=1)
    try:
        submission = Submission(type="demo-steps", payload={"steps": 1}, id=id_of(days_ago(2)))
        about = {"organization_id": user.organization_id, "user_id": user.id, "idempotency_key": "key"}
        first = submit_job(submission, **about)
        end(UUID(str(first.row["id"])), 2)
        with transaction() as session:
            session.execute(
                update(IdempotencyKey).where(IdempotencyKey.user_id == user.id).values(created_at=days_ago(2))
            )
        prune()
        again = submit_job(replace(submission, id=None), **about)
    finally:
        app.extensions["carillon_settings"] = usual
    assert (again.outcome, again.row["id"] == first.row["id"]) == ("new", False)


def test_files_that_have_expired_go_before_their_job(app: Flask, user: Account, make_job: MakeJob) -> None:
    job_id = make_job(1, ends=False)
    row = start(job_id)
    assert row is not None
    left = [leave(row, name) for name in ("expired", "kept")]
    with transaction() as session:
        session.execute(update(Artifact).where(Artifact.id == left[0].id).values(expires_at=utcnow()))
    counts = prune()
    assert counts["artifacts"] >= 1
    assert [path.name for path in folder_of(app, user, job_id).iterdir()] == [str(left[1].id)]
    assert is_there(job_id)


def test_attempts_at_deliveries_and_messages_go_by_whole_months(user: Account) -> None:
    moments = [days_ago(400), utcnow()]
    attempts = [id_of(moment) for moment in moments]
    messages = [id_of(moment) for moment in (*moments, days_ago(400))]
    with transaction() as session:
        session.execute(
            insert(WebhookAttempt),
            [{"id": each, "delivery_id": each, "attempt": 1, "timings": {}} for each in attempts],
        )
        about = {"user_id": user.id, "channel": "email", "template": "t", "data": {}, "next_attempt_at": None}
        session.execute(
            insert(ChannelMessage),
            [
                {**about, "id": each, "status": status}
                for each, status in zip(messages, ("sent", "sent", "pending"), strict=True)
            ],
        )
    prune()
    assert [there(WebhookAttempt, WebhookAttempt.id == each) for each in attempts] == [0, 1]
    assert [there(ChannelMessage, ChannelMessage.id == each) for each in messages] == [0, 1, 1]


@pytest.fixture
def old_months(in_app: None) -> Iterator[None]:
    """The partitions of three months two years ago, of each table."""
    with transaction() as session:
        create_partitions(session.connection(), days_ago(760))
    yield
    prune()


def partitions(table: str) -> list[str]:
    query = text("SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = :table ::regclass")
    with transaction() as session:
        return sorted(session.scalars(query, {"table": table}))


TABLES = ("job_executions", "notifications", "webhook_deliveries", "audit_log")


def month_of(moment: datetime) -> str:
    return f"{moment:%Y_%m}"


@pytest.mark.usefixtures("old_months")
def test_months_that_are_too_old_are_dropped_and_no_others(user: Account) -> None:
    old = id_of(days_ago(760))
    present = id_of(utcnow())
    about = {"organization_id": user.organization_id, "user_id": user.id, "event_id": old, "created_at": utcnow()}
    with transaction() as session:
        for each in (old, present):
            session.execute(
                insert(Notification).values(id=each, type="t", category="c", title="t", message="m", data={}, **about)
            )
        count_unread(user.id, 2)
    before = {table: partitions(table) for table in TABLES}
    counts = prune()
    for table in TABLES:
        after = partitions(table)
        assert f"{table}_p_{month_of(days_ago(760))}" in before[table]
        assert f"{table}_p_{month_of(utcnow())}" in after
        assert all(name >= f"{table}_p_{month_of(days_ago(400))}" for name in after)
    assert counts["partitions"] >= 3 * len(TABLES)
    assert [there(Notification, Notification.id == each) for each in (old, present)] == [0, 1]
    assert unread_count(user.id) == {"count": 1, "version": 2}, "what has gone is not unread any more"


@pytest.mark.parametrize(
    ("table", "days"), [("job_executions", 30), ("notifications", 90), ("webhook_deliveries", 30), ("audit_log", 365)]
)
def test_a_month_goes_when_its_last_moment_is_too_old(table: str, days: int) -> None:
    """The month that holds the oldest moment to be kept stays, the one before it goes."""
    edge = days_ago(days)
    with transaction() as session:
        create_partitions(session.connection(), edge.replace(day=1) - timedelta(days=1))
    prune()
    kept = partitions(table)
    assert f"{table}_p_{month_of(edge)}" in kept
    assert f"{table}_p_{month_of(edge.replace(day=1) - timedelta(days=1))}" not in kept


@pytest.mark.usefixtures("old_months")
def test_a_month_in_which_something_waits_to_be_delivered_stays(user: Account) -> None:
    delivery = id_of(days_ago(760))
    with transaction() as session:
        session.add(
            WebhookDelivery(
                id=delivery,
                organization_id=user.organization_id,
                user_id=user.id,
                webhook_id=new_id(),
                event_id=delivery,
                event_type="job.completed",
                payload={},
                status="pending",
                attempts=0,
                created_at=days_ago(760),
            )
        )
    name = f"webhook_deliveries_p_{month_of(days_ago(760))}"
    prune()
    assert name in partitions("webhook_deliveries")
    with transaction() as session:
        session.execute(update(WebhookDelivery).where(WebhookDelivery.id == delivery).values(status="failed"))
    prune()
    assert name not in partitions("webhook_deliveries")


@pytest.fixture
def reader(in_app: None) -> Iterator[Connection]:
    """Somebody who reads a table for long."""
    with db.engine.connect() as connection:
        yield connection


@pytest.mark.usefixtures("old_months")
def test_a_table_in_use_is_left_alone_and_nobody_waits_for_long(
    app: Flask, make_job: MakeJob, reader: Connection
) -> None:
    reader.execute(text("SELECT count(*) FROM job_executions"))
    pruning = threading.Thread(target=in_thread(app, prune))
    pruning.start()
    longest = 0.0
    while pruning.is_alive():
        job_id = make_job(0, ends=False)
        start(job_id)
        begins = time.monotonic()
        lifecycle.complete_job(job_id, 1, None)
        longest = max(longest, time.monotonic() - begins)
    pruning.join()
    name = f"job_executions_p_{month_of(days_ago(760))}"
    assert name in partitions("job_executions")
    assert longest < 2
    reader.rollback()
    prune()
    assert name not in partitions("job_executions")


def in_thread(app: Flask, work: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        with app.app_context():
            work()

    return run


def many_jobs(make_job: MakeJob, count: int) -> UUID:
    """So many jobs that ended long ago; the tag that they share."""
    first = make_job(31)
    tag = new_id()
    columns = [column.name for column in Job.__table__.columns if column.name not in {"id", "tags"}]
    ids = "overlay(id::text placing lpad(to_hex(n), 12, '0') from 25)::uuid"
    with transaction() as session:
        session.execute(
            text(
                f"INSERT INTO jobs (id, tags, {', '.join(columns)}) SELECT {ids}, ARRAY[:tag], {', '.join(columns)} "
                "FROM jobs, generate_series(1, :count) AS n WHERE id = :first"
            ),
            {"tag": str(tag), "count": count, "first": first},
        )
    return tag


def test_two_that_prune_at_once_delete_each_job_once(app: Flask, make_job: MakeJob) -> None:
    prune()
    tag = many_jobs(make_job, 3_000)
    counts: list[dict[str, int]] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            counts.append(prune())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=in_thread(app, work)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sum(count["jobs"] for count in counts) == 3_001
    assert there(Job, Job.tags.contains([str(tag)])) == 0


def test_a_tick_ends_in_time_and_the_next_goes_on(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    prune()
    many_jobs(make_job, 3_000)
    monkeypatch.setattr(retention, "BATCH", 1)
    begins = time.monotonic()
    first = prune(0.3)["jobs"]
    assert time.monotonic() - begins < 5
    assert 0 < first < 3_000
    monkeypatch.undo()
    assert prune()["jobs"] == 3_001 - first


def test_the_tick_does_it(make_job: MakeJob) -> None:
    from tasks.housekeeping import prune as tick

    job_id = make_job(31)
    tick()
    assert not is_there(job_id)


def test_the_command_counts_what_it_deletes(make_job: MakeJob, run_command: Callable[..., str]) -> None:
    prune()
    make_job(31)
    make_job(29)
    said = run_command("prune")
    assert "jobs: 1 deleted" in said.splitlines()
    assert re.fullmatch(r"([a-z ]+: \d+ deleted\n)+", said)


@pytest.fixture
def run_command() -> Callable[..., str]:
    """Runs a command of the console script on this test's database; what it says."""

    def run(*arguments: str) -> str:
        command = [sys.executable, "-c", "from service.cli import main; main(prog_name='carillon')", *arguments]
        done = subprocess.run(command, env=dict(os.environ), check=True, stdout=subprocess.PIPE, text=True, timeout=60)
        return done.stdout

    return run
