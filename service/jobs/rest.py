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
from service.jobs import queries
from service.jobs.actions import cancel_job, retry_job
from service.jobs.registry import JobType, all_job_types
from service.jobs.representation import execution_json, job_json
from service.jobs.retry import EXPONENTIAL, FIXED
from service.jobs.schemas import (
    AcceptedBatchSchema,
    BatchSchema,
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
from service.jobs.states import statuses_of
from service.jobs.submission import Accepted, Submission, submit_job, submit_jobs
from service.jobs.uniqueness import Unique
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
        submission(body),
        organization_id=identity.organization_id,
        user_id=identity.user_id,
        idempotency_key=idempotency_key,
    )
    # A new job's place came with its insertion.
    job = job_json(accepted.row if accepted.outcome == "new" else queries.with_place(accepted.row))
    return json_answer(
        job,
        200 if accepted.outcome == "existing" else 202,
        {"Location": f"/api/jobs/{job['id']}", **_replayed(accepted)},
    )


@blueprint.route("/jobs/batch", methods=["POST"])
@blueprint.arguments(BatchSchema)
@blueprint.arguments(IdempotencySchema, location="headers", as_kwargs=True)
@blueprint.response(202, AcceptedBatchSchema)
def submit_batch(body: dict[str, Any], idempotency_key: str | None) -> Response:
    """Submit up to 1,000 jobs, all or none."""
    identity = current_identity()
    accepted = submit_jobs(
        [submission(each) for each in body["jobs"]],
        organization_id=identity.organization_id,
        user_id=identity.user_id,
        idempotency_key=idempotency_key,
    )
    return json_answer({"data": [job_json(each.row) for each in accepted]}, 202, _replayed(accepted[0]))


def _replayed(accepted: Accepted) -> dict[str, str]:
    return {"Idempotency-Replayed": "true"} if accepted.outcome == "replayed" else {}


def submission(body: dict[str, Any]) -> Submission:
    """The submission of a loaded request body."""
    options = dict(body["options"])
    given_unique = options.pop("unique", None)
    key = options.pop("singleton_key", None)
    unique = Unique(key=key, **(given_unique or {})) if key is not None else None
    if (backoff := options.pop("retry_backoff", None)) is not None:
        options["retry_strategy"] = EXPONENTIAL if backoff else FIXED
    return Submission(type=body["type"], payload=body["payload"], name=body.get("name"), unique=unique, **options)


@blueprint.route("/jobs", methods=["GET"])
@blueprint.arguments(JobFilterSchema, location="query")
@blueprint.response(200, JobPageSchema)
def list_jobs(arguments: dict[str, Any]) -> Response:
    """List your jobs, newest first; operators see those of their organization."""
    page = Page.taken_from(arguments)
    status = arguments.pop("status", None)
    wanted = queries.JobFilter(statuses=statuses_of(status) if status else (), **arguments)
    return json_answer(queries.list_jobs(current_identity(), wanted, page))


@blueprint.route("/jobs/<uuid:job_id>", methods=["GET"])
@blueprint.response(200, JobSchema)
def get_job(job_id: UUID) -> Response:
    """Read a job: its status, progress, result or error."""
    return json_answer(job_json(queries.with_place(queries.visible_job(job_id, current_identity()))))


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
    queries.visible_job(job_id, current_identity())
    page = Page.taken_from(arguments)
    return json_answer(queries.logs(job_id, page))


@blueprint.route("/job-types", methods=["GET"])
@blueprint.response(200, JobTypeListSchema)
def list_job_types() -> Response:
    """List the kinds of jobs: what each takes, its stages and its defaults."""
    return json_answer({"data": [_job_type_json(kind) for kind in all_job_types()]})


def _job_type_json(kind: JobType) -> dict[str, Any]:
    plugin = MarshmallowPlugin()
    APISpec(title="", version="", openapi_version="3.0.3", plugins=[plugin])
    assert plugin.converter is not None
    schema = plugin.converter.schema2jsonschema(kind.payload)  # type: ignore[no-untyped-call]  # apispec has no types there
    return {
        "name": kind.name,
        "title": kind.title,
        "description": kind.description,
        "payload": {**schema, "additionalProperties": False},
        "stages": list(kind.stages),
        "defaults": {
            "queue": kind.queue or queues()[0],
            "priority": kind.priority,
            "retryLimit": kind.retry_limit,
            "retryDelay": kind.retry_delay,
            "retryStrategy": kind.retry_strategy,
            "timeout": kind.timeout or current_settings().job_timeout_minutes * 60,
        },
    }
