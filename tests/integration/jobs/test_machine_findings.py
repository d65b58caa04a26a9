"""What the state machine of jobs found, each as small as it gets."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select, update

from service.clock import utcnow
from service.database import db, transaction
from service.jobs import lifecycle
from service.jobs.actions import cancel_job, retry_job
from service.jobs.dependencies import settle_ended
from service.jobs.errors import DuplicateJob, JobNotRetryable
from service.jobs.models import Job
from service.jobs.submission import Submission, submit_job, submit_jobs
from service.jobs.uniqueness import DEBOUNCE, EXISTING, REPLACE, Unique
from service.workflows.actions import Step, create_workflow, retry_workflow
from tests.conftest import Account, MakeUser
from tests.factories.jobs import start
from tests.integration.jobs.machine.records import Records, dying_after_commit

pytestmark = pytest.mark.usefixtures("in_app")

PERMANENT = {"code": "gone", "message": "never", "retryable": False}


def submission(steps: int = 1, **options: object) -> Submission:
    """A demo job."""
    return Submission(**{"type": "demo-steps", "payload": {"steps": steps}, **options})  # type: ignore[arg-type]


def submit(user: Account, given: Submission) -> UUID:
    """The job that a submission leads to."""
    row = submit_job(given, organization_id=user.organization_id, user_id=user.id).row
    return UUID(str(row["id"]))


def job(job_id: UUID) -> Job:
    """The job as it stands in the database now."""
    db.session.rollback()
    return db.session.scalars(select(Job).where(Job.id == job_id).execution_options(populate_existing=True)).one()


class Flow:
    """A workflow of a user: each ref with the refs it waits for."""

    def __init__(self, user: Account, steps: dict[str, list[str]], given: Submission | None = None) -> None:
        self.id, _ = create_workflow(
            "Flow",
            [
                Step(ref=ref, submission=given or submission(), parents=dict.fromkeys(parents, "cancel"))
                for ref, parents in steps.items()
            ],
            organization_id=user.organization_id,
            user_id=user.id,
        )
        query = select(Job.ref, Job.id).where(Job.workflow_id == self.id)
        self.ids = {str(ref): job_id for ref, job_id in db.session.execute(query)}

    def statuses(self) -> dict[str, str]:
        """The present status of each step."""
        return {ref: job(job_id).status for ref, job_id in sorted(self.ids.items())}

    def begin(self, ref: str) -> int:
        """Start a step; its attempt."""
        attempt = job(self.ids[ref]).attempt + 1
        assert start(self.ids[ref], attempt) is not None, f"{ref} cannot start: {self.statuses()}"
        return attempt

    def complete(self, ref: str) -> None:
        """Run a step well."""
        lifecycle.complete_job(self.ids[ref], self.begin(ref), None)

    def fail(self, ref: str) -> None:
        """Run a step badly."""
        lifecycle.fail_job(self.ids[ref], self.begin(ref), PERMANENT)


def test_a_debounced_job_may_wait_as_long_from_its_new_time(make_user: MakeUser) -> None:
    user = make_user()
    given = submission(unique=Unique(key="k", mode=DEBOUNCE, period=1000.0), expire_in_seconds=100.0)
    job_id = submit(user, given)
    Records([user.id]).pass_time(900)
    assert submit(user, given) == job_id
    pushed = job(job_id)
    assert pushed.scheduled_at is not None
    assert pushed.expires_at is not None
    assert pushed.scheduled_at > utcnow() + timedelta(seconds=990)
    assert pushed.expires_at - pushed.scheduled_at == timedelta(seconds=100), "it expires before its time has come"


def test_in_a_batch_a_later_job_replaces_an_earlier_one(make_user: MakeUser) -> None:
    user = make_user()
    unique = Unique(key="k", mode=REPLACE)
    batch = [submission(1, unique=unique, delay=600.0), submission(2, unique=unique)]
    accepted = submit_jobs(batch, organization_id=user.organization_id, user_id=user.id)
    assert [each.outcome for each in accepted] == ["new", "existing"]
    kept = job(UUID(str(accepted[0].row["id"])))
    assert (kept.status, kept.payload) == ("scheduled", {"steps": 2})


def test_a_retried_workflow_waits_for_a_step_that_still_runs(make_user: MakeUser) -> None:
    flow = Flow(make_user(), {"a": [], "b": [], "c": ["a", "b"]})
    running = flow.begin("a")
    flow.fail("b")
    assert flow.statuses() == {"a": "active", "b": "failed", "c": "cancelled"}
    retry_workflow(flow.id)
    lifecycle.complete_job(flow.ids["a"], running, None)
    assert flow.statuses() == {"a": "completed", "b": "queued", "c": "blocked"}, "c waits for b too"
    flow.complete("b")
    assert flow.statuses()["c"] == "queued"


def test_a_cancelled_step_waits_again_for_one_that_has_not_begun(make_user: MakeUser) -> None:
    flow = Flow(make_user(), {"a": [], "b": ["a"]})
    cancel_job(flow.ids["b"])
    retry_workflow(flow.id)
    assert flow.statuses() == {"a": "queued", "b": "blocked"}
    flow.complete("a")
    assert flow.statuses()["b"] == "queued"


def test_who_waits_for_a_retried_step_is_not_forgotten(make_user: MakeUser) -> None:
    flow = Flow(make_user(), {"a": [], "b": ["a"]})
    attempt = flow.begin("a")
    with dying_after_commit(True):
        lifecycle.fail_job(flow.ids["a"], attempt, PERMANENT)
    assert flow.statuses() == {"a": "failed", "b": "blocked"}, "nobody has told b yet"
    retry_workflow(flow.id)
    flow.complete("a")
    settle_ended()
    assert flow.statuses()["b"] == "queued"


def test_a_parent_of_whose_end_nobody_told_is_not_counted_for_another(make_user: MakeUser) -> None:
    flow = Flow(make_user(), {"a": [], "b": [], "c": ["a", "b"]})
    attempt = flow.begin("a")
    cancel_job(flow.ids["c"])
    flow.fail("b")
    with dying_after_commit(True):
        lifecycle.complete_job(flow.ids["a"], attempt, None)
    retry_workflow(flow.id)
    settle_ended()
    assert flow.statuses() == {"a": "completed", "b": "queued", "c": "blocked"}, "c waits for b"
    flow.complete("b")
    assert flow.statuses()["c"] == "queued"


def test_what_cannot_be_retried_keeps_its_key(make_user: MakeUser) -> None:
    user = make_user()
    unique = Unique(key="k", states=["queued"])
    job_id = submit(user, submission(unique=unique, delay=600.0))
    with pytest.raises(JobNotRetryable):
        retry_job(job_id)
    assert job(job_id).unique_held


def test_a_step_does_not_stand_for_a_job_of_another_workflow(make_user: MakeUser) -> None:
    user = make_user()
    given = submission(unique=Unique(key="k", mode=EXISTING))
    Flow(user, {"a": []}, given)
    with pytest.raises(DuplicateJob):
        Flow(user, {"a": []}, given)
    with pytest.raises(DuplicateJob):
        Flow(user, {"a": [], "b": ["a"]}, given)


def test_a_workflow_is_retried_when_the_period_of_a_key_is_over(make_user: MakeUser) -> None:
    user = make_user()
    flow = Flow(user, {"a": []}, submission(unique=Unique(key="k")))
    flow.fail("a")
    other = submit(user, submission(unique=Unique(key="k", period=600.0)))
    start(other)
    lifecycle.complete_job(other, 1, None)
    with transaction() as session:
        session.execute(update(Job).where(Job.id == other).values(unique_until=utcnow()))
    retry_workflow(flow.id)
    assert flow.statuses() == {"a": "queued"}
