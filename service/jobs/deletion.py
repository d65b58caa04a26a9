"""Deleting the history of jobs."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, select
from sqlalchemy.orm import aliased

from service.database import fetch_all, transaction
from service.jobs.models import Job, JobDependency
from service.jobs.states import FINAL
from service.workflows.models import Workflow
from service.workflows.states import RUNNING

_dependent = aliased(Job)
_dependents = select(JobDependency.job_id).join(_dependent, _dependent.id == JobDependency.job_id)

# A job that ended is kept while others wait to be told or still have to read its result, and while its workflow is
# made of what became of it.
is_deletable: ColumnElement[bool] = and_(
    Job.status.in_(sorted(FINAL)),
    Job.has_dependents.is_(False),
    ~exists(_dependents.where(JobDependency.parent_id == Job.id, _dependent.status.not_in(FINAL))),
    ~exists(select(Workflow.id).where(Workflow.id == Job.workflow_id, Workflow.status == RUNNING)),
)

# Log lines and dependencies go with the row; attempts are kept in partitions and know no foreign key.
DELETE = """
WITH gone AS (
    DELETE FROM jobs WHERE id = ANY(ARRAY(SELECT value::uuid FROM jsonb_array_elements_text(%(ids)s))) RETURNING id),
attempts AS (
    DELETE FROM job_executions USING gone WHERE job_executions.job_id = gone.id)
SELECT id FROM gone
"""


def delete_jobs(job_ids: Iterable[UUID]) -> Collection[UUID]:
    """Delete jobs that have ended, with their attempts and logs; the ids of those that were.

    Raises IntegrityError where something still refers to one of them.
    """
    with transaction() as session:
        query = select(Job.id).where(Job.id.in_(list(job_ids)), is_deletable).order_by(Job.id).with_for_update(of=Job)
        ids = session.scalars(query).all()
        if ids:
            fetch_all(DELETE, {"ids": json.dumps([str(job_id) for job_id in ids])})
    return ids
