"""Reads of workflows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from service.accounts.identity import Identity
from service.clock import isoformat
from service.database import db
from service.errors import NotAllowed
from service.jobs.models import Job, JobDependency
from service.jobs.queries import job_columns, with_live_progress
from service.jobs.representation import job_json
from service.jobs.states import ACTIVE, FINAL
from service.pagination import LongList, Page
from service.workflows.errors import WorkflowNotFound
from service.workflows.models import Workflow


@dataclass(frozen=True, kw_only=True)
class WorkflowFilter:
    """Which workflows of a list; None means any."""

    status: str | None = None
    q: str | None = None


def visible_workflow(workflow_id: UUID, identity: Identity) -> Workflow:
    """A workflow that somebody may see; raises WorkflowNotFound across tenants, NotAllowed within one."""
    workflow = db.session.get(Workflow, workflow_id, populate_existing=True)
    if workflow is None or workflow.organization_id != identity.organization_id:
        raise WorkflowNotFound
    if workflow.user_id != identity.user_id and not identity.is_operator:
        raise NotAllowed
    return workflow


def list_workflows(identity: Identity, wanted: WorkflowFilter, page: Page) -> dict[str, Any]:
    """A page of the user's workflows, or of the tenant's for an operator, newest first."""
    query = select(Workflow)
    if identity.is_operator:
        query = query.where(Workflow.organization_id == identity.organization_id)
    else:
        query = query.where(Workflow.user_id == identity.user_id)
    if wanted.status:
        query = query.where(Workflow.status == wanted.status)
    if wanted.q:
        query = query.where(Workflow.name.icontains(wanted.q, autoescape=True))
    listed = LongList(query, Workflow.id).read(page, workflow_json)
    counts = _counts([UUID(each["id"]) for each in listed["data"]])
    for each in listed["data"]:
        total, ended = counts[UUID(each["id"])]
        each["progress"] = _progress(ended, total, 100.0 * ended)
    return listed


def _counts(workflow_ids: Sequence[UUID]) -> Mapping[UUID, tuple[int, int]]:
    """Jobs in all and ended ones, by workflow."""
    query = (
        select(Job.workflow_id, func.count(), func.count().filter(Job.status.in_(FINAL)))
        .where(Job.workflow_id.in_(workflow_ids))
        .group_by(Job.workflow_id)
    )
    counts: dict[UUID, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for workflow_id, total, ended in db.session.execute(query):
        assert workflow_id is not None
        counts[workflow_id] = (total, ended)
    return counts


def workflow_json(workflow: Workflow) -> dict[str, Any]:
    """A workflow without its jobs; its progress is the caller's to add."""
    return {
        "id": str(workflow.id),
        "name": workflow.name,
        "status": workflow.status,
        "progress": None,
        "createdAt": isoformat(workflow.created_at),
        "completedAt": isoformat(workflow.completed_at),
    }


def workflow_with_jobs(workflow: Workflow) -> dict[str, Any]:
    """A workflow with its jobs by ref, and its progress, to which running jobs add theirs."""
    query = select(*job_columns()).where(Job.workflow_id == workflow.id).order_by(Job.id)
    rows = [with_live_progress(dict(row)) for row in db.session.execute(query).mappings()]
    refs = {row["id"]: row["ref"] for row in rows}
    parents: dict[UUID, list[str]] = defaultdict(list)
    edges = select(JobDependency.job_id, JobDependency.parent_id).where(JobDependency.job_id.in_(refs))
    for job_id, parent_id in db.session.execute(edges.order_by(JobDependency.parent_id)):
        if parent_id in refs:
            parents[job_id].append(refs[parent_id])
    jobs = {row["ref"]: {**job_json(row), "dependsOn": parents[row["id"]]} for row in rows}
    ended = sum(row["status"] in FINAL for row in rows)
    running = sum((row["progress"] or {}).get("percentage", 0) for row in rows if row["status"] == ACTIVE)
    return {
        **workflow_json(workflow),
        "progress": _progress(ended, len(rows), 100.0 * ended + running),
        "jobs": jobs,
    }


def _progress(ended: int, total: int, points: float) -> dict[str, Any]:
    percentage = round(points / total, 1) if total else 100.0
    whole = int(percentage)
    return {"current": ended, "total": total, "percentage": whole if whole == percentage else percentage}
