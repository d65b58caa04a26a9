"""Writes of workflows: create, cancel, retry, and note their ends."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, IntegrityError

from service.clock import utcnow
from service.database import after_commit, fetch_all, transaction
from service.errors import CarillonError, ValidationFailed
from service.events import JobCancelled, JobCompleted, JobEvent, JobFailed, JobPostponed, JobQueued, subscribe
from service.ids import new_id
from service.jobs import idempotency
from service.jobs.actions import cancel_jobs, let_go_of_keys
from service.jobs.dependencies import Dependency
from service.jobs.errors import DuplicateJob
from service.jobs.models import Job
from service.jobs.rows import RETURNED
from service.jobs.states import FINAL
from service.jobs.submission import Submission, submit_jobs
from service.jobs.transitions import transition
from service.workflows.errors import WorkflowNotCancellable, WorkflowNotRetryable
from service.workflows.models import Workflow
from service.workflows.states import RUNNING

log = structlog.get_logger(__name__)

BATCH = 200


@dataclass(frozen=True, kw_only=True)
class Step:
    """A job of a workflow: how it is submitted, and the refs it waits for with what their failure means."""

    ref: str
    submission: Submission
    parents: Mapping[str, str]


def connect_workflows() -> None:
    """Have workflows hear of their jobs."""
    subscribe(_on_ends, JobCompleted, JobFailed, JobCancelled)
    subscribe(_on_restarts, JobQueued, JobPostponed)


def create_workflow(
    name: str,
    steps: Sequence[Step],
    *,
    organization_id: UUID,
    user_id: UUID,
    idempotency_key: str | None = None,
) -> tuple[UUID, bool]:
    """Submit the jobs of all steps, in one transaction; the workflow's id, and whether it was there before.

    Raises ValidationFailed for refs that are double, unknown or go in a circle, and what `submit_jobs` raises.
    """
    _check_order(steps)
    workflow_id = new_id()
    ids = {step.ref: new_id() for step in steps}
    submissions = [
        replace(
            step.submission,
            id=ids[step.ref],
            ref=step.ref,
            workflow_id=workflow_id,
            depends_on=[
                Dependency(job_id=ids[parent], on_failure=on_failure) for parent, on_failure in step.parents.items()
            ],
        )
        for step in steps
    ]
    with transaction() as session:
        if idempotency_key is not None:
            body = [name, [[step.ref, repr(step.submission), sorted(step.parents.items())] for step in steps]]
            body_hash = hashlib.sha256(json.dumps(body).encode()).digest()
            job_ids = [str(job_id) for job_id in ids.values()]
            first = idempotency.claim(user_id, idempotency_key, body_hash, job_ids, utcnow())
            if first is not None:
                return UUID(str(first[0]["workflow_id"])), True
        session.add(
            Workflow(id=workflow_id, organization_id=organization_id, user_id=user_id, name=name, status=RUNNING)
        )
        session.flush()
        try:
            accepted = submit_jobs(submissions, organization_id=organization_id, user_id=user_id)
        except DuplicateJob:
            raise
        except CarillonError as error:
            if error.errors is not None:
                error.errors = {_in_steps(field, steps): texts for field, texts in error.errors.items()}
            raise
        # A step is a job of this workflow, not one that stands for it elsewhere.
        for each in accepted:
            if each.outcome != "new":
                raise DuplicateJob(job_id=each.row["id"])
    return workflow_id, False


def _in_steps(field: str, steps: Sequence[Step]) -> str:
    return field.replace("jobs.", "steps.", 1) if len(steps) > 1 else f"steps.0.{field}"


def _check_order(steps: Sequence[Step]) -> None:
    known = {step.ref for step in steps}
    wrong: dict[str, list[str]] = {}
    seen: set[str] = set()
    for number, step in enumerate(steps):
        if step.ref in seen:
            wrong[f"steps.{number}.ref"] = ["Another step has this ref."]
        seen.add(step.ref)
        missing = sorted(set(step.parents) - known)
        if missing:
            wrong[f"steps.{number}.dependsOn"] = [f"There is no step {ref}." for ref in missing]
    if wrong:
        raise ValidationFailed(errors=wrong)
    try:
        TopologicalSorter({step.ref: step.parents for step in steps}).prepare()
    except CycleError as error:
        circle = " → ".join(error.args[1])
        raise ValidationFailed(errors={"steps": [f"The dependencies go in a circle: {circle}."]}) from None


def cancel_workflow(workflow_id: UUID, reason: str | None) -> None:
    """Cancel every job that has not ended; running ones are asked to stop. Raises WorkflowNotCancellable."""
    with transaction() as session:
        query = select(Job.id).where(Job.workflow_id == workflow_id, Job.status.not_in(FINAL))
        if not cancel_jobs(session.scalars(query), reason):
            raise WorkflowNotCancellable


# Failed and cancelled jobs wait again for those of their parents that have not completed. All jobs of the workflow are
# held meanwhile: none of them ends unseen.
WAIT_AGAIN = """
WITH job AS MATERIALIZED (
    SELECT id, status FROM jobs WHERE workflow_id = %(workflow_id)s ORDER BY id FOR UPDATE),
anew AS (SELECT id FROM job WHERE status IN ('failed', 'cancelled')),
edge AS (
    UPDATE job_dependencies SET settled = false
    WHERE job_id IN (SELECT id FROM anew) AND parent_id IN (SELECT id FROM job WHERE status <> 'completed')
    RETURNING job_id, parent_id),
running AS (
    UPDATE jobs SET has_dependents = true
    WHERE id IN (SELECT parent_id FROM edge) AND id NOT IN (SELECT id FROM anew))
SELECT anew.id,
    (SELECT count(*) FROM edge WHERE edge.job_id = anew.id)
        -- A parent that completed, and of whose end nobody has told yet: it will be counted down too.
        + (SELECT count(*) FROM job_dependencies AS untold
            WHERE untold.job_id = anew.id AND NOT untold.settled
                AND untold.parent_id NOT IN (SELECT parent_id FROM edge)) AS parents,
    EXISTS (SELECT FROM edge WHERE edge.parent_id = anew.id)
        OR EXISTS (SELECT FROM job_dependencies AS told
            WHERE told.parent_id = anew.id AND NOT told.settled) AS is_parent
FROM anew
"""

_ANEW = """error = NULL, progress = NULL, completed_at = NULL, cancel_requested_at = NULL, cancel_reason = NULL,
        rescues = 0, max_attempts = attempt + retry_limit + 1, dispatched_at = NULL, parked_on = NULL,
        discarded_at = NULL, unique_held = unique_id IS NOT NULL, expires_at = NULL, version = version + 1,
        waiting_for = again.parents, has_dependents = again.is_parent
    FROM jsonb_to_recordset(%(jobs)s) AS again(job_id uuid, parents int, is_parent boolean)
    WHERE jobs.id = again.job_id"""

BLOCK = f"""
job AS (UPDATE jobs SET status = 'blocked', {_ANEW} AND again.parents > 0 RETURNING {RETURNED})
"""
QUEUE = f"""
job AS (UPDATE jobs SET status = 'queued', {_ANEW} AND again.parents = 0 RETURNING {RETURNED})
"""


def retry_workflow(workflow_id: UUID) -> None:
    """Run again what failed or was cancelled, in the order of its dependencies; what completed stays.

    Raises WorkflowNotRetryable, and DuplicateJob when another job holds the unique key of one of them by now.
    """
    with transaction():
        rows = fetch_all(WAIT_AGAIN, {"workflow_id": str(workflow_id)})
        if not rows:
            raise WorkflowNotRetryable
        again = [{"job_id": str(row["id"]), "parents": row["parents"], "is_parent": row["is_parent"]} for row in rows]
        let_go_of_keys(UUID(each["job_id"]) for each in again)
        parameters = {"jobs": json.dumps(again), "now": utcnow()}
        try:
            # Those that wait first: a parent must not end before its children wait for it.
            transition(JobPostponed, BLOCK, parameters)
            transition(JobQueued, QUEUE, parameters)
        except IntegrityError:
            raise DuplicateJob from None


def _on_ends(events: Sequence[JobEvent]) -> None:
    ended = _workflows_of(events)
    if ended:
        after_commit(lambda: _finish_or_leave(ended))


def _finish_or_leave(workflows: Sequence[str]) -> None:
    """Note the ends of workflows, or leave it to the tick: that their jobs have ended stands in any case."""
    try:
        finish_workflows(workflows)
    except DBAPIError as error:
        log.warning("workflow_end_left", workflows=len(workflows), error=str(error).splitlines()[0])


def _on_restarts(events: Sequence[JobEvent]) -> None:
    """A job that is retried by hand runs its workflow again."""
    restarted = _workflows_of(events)
    if restarted:
        fetch_all(
            """
            UPDATE workflows SET status = 'running', completed_at = NULL
            WHERE id = ANY(ARRAY(SELECT value::uuid FROM jsonb_array_elements_text(%(workflows)s)))
                AND status <> 'running'
            """,
            {"workflows": json.dumps(restarted)},
        )


def _workflows_of(events: Sequence[JobEvent]) -> list[str]:
    return sorted({str(event.job["workflow_id"]) for event in events if event.job["workflow_id"] is not None})


# A step that failed does not fail its workflow where everything that waited for it was to continue.
FINISH = """
UPDATE workflows SET completed_at = %(now)s, status = CASE
    WHEN EXISTS (SELECT FROM jobs WHERE workflow_id = workflows.id AND status = 'failed' AND NOT {tolerated})
        THEN 'failed'
    WHEN EXISTS (SELECT FROM jobs WHERE workflow_id = workflows.id AND status = 'cancelled' AND NOT {tolerated})
        THEN 'cancelled'
    ELSE 'completed' END
WHERE status = 'running' AND id = ANY(ARRAY(SELECT value::uuid FROM jsonb_array_elements_text(%(workflows)s)))
    AND NOT EXISTS (SELECT FROM jobs WHERE workflow_id = workflows.id
        AND status IN ('scheduled', 'blocked', 'queued', 'active', 'retrying'))
""".replace(
    "{tolerated}",
    """coalesce((SELECT bool_and(edge.on_failure = 'continue')
            FROM job_dependencies AS edge WHERE edge.parent_id = jobs.id), false)""",
)


def finish_workflows(workflows: Sequence[str]) -> None:
    """Note the end of those of these workflows whose jobs have all ended; doing so twice does it once."""
    with transaction():
        fetch_all(FINISH, {"workflows": json.dumps(list(workflows)), "now": utcnow()})


def finish_ended_workflows() -> None:
    """Note the ends that nobody noted, because a process died before it did."""
    with transaction():
        rows = fetch_all(
            """
            SELECT id FROM workflows WHERE status = 'running' AND NOT EXISTS (
                SELECT FROM jobs WHERE workflow_id = workflows.id
                    AND status IN ('scheduled', 'blocked', 'queued', 'active', 'retrying'))
            ORDER BY id LIMIT %(batch)s
            """,
            {"batch": BATCH},
        )
    if rows:
        finish_workflows([str(row["id"]) for row in rows])
