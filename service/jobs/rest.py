"""`/api/jobs` and `/api/job-types`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Response
from flask_smorest import Blueprint

from service.accounts.identity import current_identity
from service.audit.actions import record
from service.database import transaction
from service.events import JobRow
from service.jobs import queries
from service.jobs.actions import cancel_job, retry_job
from service.jobs.bulk import Order, Outcome, ask
from service.jobs.filters import JobFilter
from service.jobs.registry import JobType, all_job_types
from service.jobs.representation import execution_json, job_json, rate_json
from service.jobs.requests import accepted_answer, replay_headers, submission_of
from service.jobs.schemas import (
    AcceptedBatchSchema,
    BatchSchema,
    BulkAnswerSchema,
    BulkSchema,
    CancelSchema,
    ExecutionListSchema,
    IdempotencySchema,
    JobFilterSchema,
    JobPageSchema,
    JobSchema,
    JobTypeListSchema,
    LogPageSchema,
    SubmissionSchema,
)
from service.jobs.submission import submit_job, submit_jobs
from service.pagination import LongListArguments, Page
from service.queue import queues
from service.settings import current_settings
from service.web import json_answer

blueprint = Blueprint("jobs", __name__, url_prefix="/api", description="Submit jobs and follow them")


@blueprint.route("/jobs", methods=["POST"])
@blueprint.arguments(SubmissionSchema)
@blueprint.arguments(IdempotencySchema, location="headers", as_kwargs=True)
@blueprint.response(202, JobSchema)
@blueprint.alt_response(200, schema=JobSchema, description="A unique job that there was stands for this submission")
def submit(body: dict[str, Any], idempotency_key: str | None) -> Response:
    """Submit a job."""
    identity = current_identity()
    accepted = submit_job(
        submission_of(body),
        organization_id=identity.organization_id,
        user_id=identity.user_id,
        idempotency_key=idempotency_key,
    )
    return accepted_answer(accepted)


@blueprint.route("/jobs/batch", methods=["POST"])
@blueprint.arguments(BatchSchema)
@blueprint.arguments(IdempotencySchema, location="headers", as_kwargs=True)
@blueprint.response(202, AcceptedBatchSchema)
def submit_batch(body: dict[str, Any], idempotency_key: str | None) -> Response:
    """Submit up to 1,000 jobs, all or none."""
    identity = current_identity()
    accepted = submit_jobs(
        [submission_of(each) for each in body["jobs"]],
        organization_id=identity.organization_id,
        user_id=identity.user_id,
        idempotency_key=idempotency_key,
    )
    return json_answer({"data": [job_json(each.row) for each in accepted]}, 202, replay_headers(accepted[0]))


@blueprint.route("/jobs", methods=["GET"])
@blueprint.arguments(JobFilterSchema, location="query")
@blueprint.response(200, JobPageSchema)
def list_jobs(arguments: dict[str, Any]) -> Response:
    """List your jobs, newest first; operators see those of their organization."""
    page = Page.taken_from(arguments)
    return json_answer(queries.list_jobs(current_identity(), JobFilter.taken_from(arguments), page))


@blueprint.route("/jobs/actions", methods=["POST"])
@blueprint.arguments(BulkSchema)
@blueprint.response(200, BulkAnswerSchema)
@blueprint.alt_response(202, schema=JobSchema, description="The jobs are many: this one deals with them")
def act_on_many(body: dict[str, Any]) -> Response:
    """Cancel, retry or delete many jobs: those with these ids, or all that meet conditions."""
    said = BulkSchema(only=("filter", "ids")).dump(body)
    order = Order.given(body["action"], body, said, body.get("reason"))
    return bulk_answer(ask(order, current_identity()))


def bulk_answer(came_of_it: Outcome | JobRow) -> Response:
    """What was done, or the job that does it."""
    if isinstance(came_of_it, Outcome):
        return json_answer(came_of_it.json())
    job = job_json(came_of_it)
    return json_answer(job, 202, {"Location": f"/api/jobs/{job['id']}"})


@blueprint.route("/jobs/<uuid:job_id>", methods=["GET"])
@blueprint.response(200, JobSchema)
def get_job(job_id: UUID) -> Response:
    """Read a job: its status, progress, result or error."""
    identity = current_identity()
    row = queries.with_place(queries.visible_job(job_id, identity))
    return json_answer(job_json(row) | queries.own_result(row, identity))


@blueprint.route("/jobs/<uuid:job_id>", methods=["DELETE"])
@blueprint.arguments(CancelSchema, required=False)
@blueprint.response(200, JobSchema)
def cancel(body: dict[str, Any], job_id: UUID) -> Response:
    """Cancel a job: a waiting one at once, a running one as soon as it notices."""
    queries.visible_job(job_id, current_identity())
    with transaction():
        row = cancel_job(job_id, body.get("reason"))
        record("job.cancel", "job", job_id, {"reason": body.get("reason")})
    return json_answer(job_json(row))


@blueprint.route("/jobs/<uuid:job_id>/retry", methods=["POST"])
@blueprint.response(202, JobSchema)
def retry(job_id: UUID) -> Response:
    """Run a failed or cancelled job again."""
    queries.visible_job(job_id, current_identity())
    with transaction():
        row = retry_job(job_id)
        record("job.retry", "job", job_id)
    return json_answer(job_json(row), 202)


@blueprint.route("/jobs/<uuid:job_id>/executions", methods=["GET"])
@blueprint.response(200, ExecutionListSchema)
def list_executions(job_id: UUID) -> Response:
    """List the finished attempts of a job; operators see tracebacks."""
    identity = current_identity()
    queries.visible_job(job_id, identity)
    attempts = []
    for row in queries.executions(job_id):
        attempt = execution_json(row)
        if identity.is_operator:
            attempt["traceback"] = row["traceback"]
        attempts.append(attempt)
    return json_answer({"data": attempts})


@blueprint.route("/jobs/<uuid:job_id>/logs", methods=["GET"])
@blueprint.arguments(LongListArguments, location="query")
@blueprint.response(200, LogPageSchema)
def list_logs(arguments: dict[str, Any], job_id: UUID) -> Response:
    """List what a job logged, first to last."""
    identity = current_identity()
    job = queries.visible_job(job_id, identity)
    return json_answer(queries.logs(job, identity, Page.taken_from(arguments)))


@blueprint.route("/job-types", methods=["GET"])
@blueprint.response(200, JobTypeListSchema)
def list_job_types() -> Response:
    """List the kinds of jobs: what each takes, its stages and its defaults."""
    return json_answer({"data": [_job_type_json(kind) for kind in all_job_types()]})


def _job_type_json(kind: JobType) -> dict[str, Any]:
    plugin = MarshmallowPlugin()
    spec = APISpec(title="", version="", openapi_version="3.0.3", plugins=[plugin])
    assert plugin.converter is not None
    schema = plugin.converter.schema2jsonschema(kind.payload)  # type: ignore[no-untyped-call]  # apispec has no types there
    return {
        "name": kind.name,
        "title": kind.title,
        "description": kind.description,
        "payload": {**schema, **_referred_to(spec), "additionalProperties": False},
        "stages": list(kind.stages),
        "sensitive": kind.sensitive,
        "defaults": {
            "queue": kind.queue or queues()[0],
            "priority": kind.priority,
            "retryLimit": kind.retry_limit,
            "retryDelay": kind.retry_delay,
            "retryStrategy": kind.retry_strategy,
            "timeout": kind.timeout or current_settings().job_timeout_minutes * 60,
            "expireInSeconds": kind.expire_in_seconds,
        },
        "limits": {
            "concurrency": kind.limit.concurrency,
            "rate": rate_json(kind.limit.rate),
            "keyConcurrency": kind.key_limit.concurrency,
            "keyRate": rate_json(kind.key_limit.rate),
        },
    }


def _referred_to(spec: APISpec) -> dict[str, Any]:
    """What the references of a payload's schema point to, if there are any."""
    schemas = spec.components.schemas
    return {"components": {"schemas": schemas}} if schemas else {}
