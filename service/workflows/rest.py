"""`/api/workflows`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response
from flask_smorest import Blueprint

from service.accounts.identity import current_identity
from service.audit.actions import record
from service.database import transaction
from service.jobs.requests import submission_of
from service.jobs.schemas import CancelSchema, IdempotencySchema
from service.pagination import Page
from service.web import json_answer
from service.workflows import queries
from service.workflows.actions import Step, cancel_workflow, create_workflow, retry_workflow
from service.workflows.schemas import (
    WorkflowBodySchema,
    WorkflowFilterSchema,
    WorkflowPageSchema,
    WorkflowWithJobsSchema,
)

blueprint = Blueprint("workflows", __name__, url_prefix="/api", description="Jobs that depend on one another")


@blueprint.route("/workflows", methods=["POST"])
@blueprint.arguments(WorkflowBodySchema)
@blueprint.arguments(IdempotencySchema, location="headers", as_kwargs=True)
@blueprint.response(202, WorkflowWithJobsSchema)
def create(body: dict[str, Any], idempotency_key: str | None) -> Response:
    """Submit up to 1,000 jobs that depend on one another, all or none."""
    identity = current_identity()
    workflow_id, was_there = create_workflow(
        body["name"],
        [_step(step) for step in body["steps"]],
        organization_id=identity.organization_id,
        user_id=identity.user_id,
        idempotency_key=idempotency_key,
    )
    headers = {"Location": f"/api/workflows/{workflow_id}"}
    if was_there:
        headers["Idempotency-Replayed"] = "true"
    return json_answer(queries.workflow_with_jobs(queries.visible_workflow(workflow_id, identity)), 202, headers)


def _step(body: dict[str, Any]) -> Step:
    parents = {each["ref"]: each.get("on_failure", body["on_parent_failure"]) for each in body["depends_on"]}
    return Step(ref=body["ref"], submission=submission_of(body), parents=parents)


@blueprint.route("/workflows", methods=["GET"])
@blueprint.arguments(WorkflowFilterSchema, location="query")
@blueprint.response(200, WorkflowPageSchema)
def list_workflows(arguments: dict[str, Any]) -> Response:
    """List your workflows, newest first; operators see those of their organization."""
    page = Page.taken_from(arguments)
    return json_answer(queries.list_workflows(current_identity(), queries.WorkflowFilter(**arguments), page))


@blueprint.route("/workflows/<uuid:workflow_id>", methods=["GET"])
@blueprint.response(200, WorkflowWithJobsSchema)
def get_workflow(workflow_id: UUID) -> Response:
    """Read a workflow: its status, its progress and its jobs by ref."""
    return json_answer(queries.workflow_with_jobs(queries.visible_workflow(workflow_id, current_identity())))


@blueprint.route("/workflows/<uuid:workflow_id>", methods=["DELETE"])
@blueprint.arguments(CancelSchema, required=False)
@blueprint.response(200, WorkflowWithJobsSchema)
def cancel(body: dict[str, Any], workflow_id: UUID) -> Response:
    """Cancel every job of a workflow that has not ended; running ones are asked to stop."""
    identity = current_identity()
    queries.visible_workflow(workflow_id, identity)
    with transaction():
        cancel_workflow(workflow_id, body.get("reason"))
        record("workflow.cancel", "workflow", workflow_id, {"reason": body.get("reason")})
    return json_answer(queries.workflow_with_jobs(queries.visible_workflow(workflow_id, identity)))


@blueprint.route("/workflows/<uuid:workflow_id>/retry", methods=["POST"])
@blueprint.response(202, WorkflowWithJobsSchema)
def retry(workflow_id: UUID) -> Response:
    """Run again what failed or was cancelled; what completed stays."""
    identity = current_identity()
    queries.visible_workflow(workflow_id, identity)
    with transaction():
        retry_workflow(workflow_id)
        record("workflow.retry", "workflow", workflow_id)
    return json_answer(queries.workflow_with_jobs(queries.visible_workflow(workflow_id, identity)), 202)
