"""`/jobs` and `/webhooks` as S0 has them, `/analyze/jobs` as S4 has it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response
from flask_smorest import Blueprint

from service.accounts.identity import current_identity
from service.audit.actions import record
from service.compat.queries import jobs_of, shown_job
from service.compat.representation import analysis_job, listed_job, older_webhook, polled_job
from service.compat.schemas import (
    AnalysisCancelSchema,
    AnalysisJobSchema,
    AnalysisJobsSchema,
    AnalysisPageArguments,
    DoneSchema,
    ListedJobsSchema,
    OlderNewWebhookSchema,
    OlderWebhookChangeSchema,
    PolledFilterSchema,
    PolledJobSchema,
    WrappedWebhookSchema,
    WrappedWebhooksSchema,
)
from service.compat.words import STATES
from service.database import transaction
from service.jobs.actions import cancel_job
from service.jobs.queries import visible_job, with_place
from service.pagination import Page
from service.web import json_answer
from service.webhooks import actions as webhook_actions
from service.webhooks import queries as webhook_queries
from service.webhooks.models import Webhook

blueprint = Blueprint(
    "older-paths", __name__, description="Older paths, kept for the clients of S0 and S4; what is new is under /api"
)
older = blueprint.doc(deprecated=True)

# S0 lists its endpoints without pages; who has more of them asks `/api/webhooks`.
WEBHOOKS_LISTED = 1000


@blueprint.route("/jobs", methods=["GET"])
@older
@blueprint.arguments(PolledFilterSchema, location="query")
@blueprint.response(200, ListedJobsSchema)
def list_jobs(arguments: dict[str, Any]) -> Response:
    """List your own jobs, newest first."""
    identity = current_identity()
    statuses = STATES.get(arguments["status"], ())
    return json_answer(jobs_of(identity.user_id, identity, arguments["page"], listed_job, statuses))


@blueprint.route("/jobs/<uuid:job_id>", methods=["GET"])
@older
@blueprint.response(200, PolledJobSchema)
def get_job(job_id: UUID) -> Response:
    """Read a job: its state, progress, result or the reason why it failed."""
    return json_answer(polled_job(shown_job(job_id, current_identity())))


@blueprint.route("/webhooks", methods=["GET"])
@older
@blueprint.response(200, WrappedWebhooksSchema)
def list_webhooks() -> Response:
    """List your endpoints, newest first."""
    identity = current_identity()
    listed = webhook_queries.list_webhooks(identity, Page(1, WEBHOOKS_LISTED))["data"]
    return json_answer({"webhooks": [older_webhook(each, identity.user_id) for each in listed]})


@blueprint.route("/webhooks", methods=["POST"])
@older
@blueprint.arguments(OlderNewWebhookSchema)
@blueprint.response(201, WrappedWebhookSchema)
def create_webhook(body: dict[str, Any]) -> Response:
    """Create an endpoint with the flat payload; the answer carries the secret its signatures are made with."""
    identity = current_identity()
    fields = {**body, "payload_format": "flat"}
    webhook, secret = webhook_actions.create_webhook(identity.organization_id, identity.user_id, fields)
    return _webhook_answer(webhook, 201, secret=secret)


@blueprint.route("/webhooks/<uuid:webhook_id>", methods=["GET"])
@older
@blueprint.response(200, WrappedWebhookSchema)
def get_webhook(webhook_id: UUID) -> Response:
    """Read an endpoint."""
    return _webhook_answer(webhook_queries.own_webhook(webhook_id, current_identity()))


@blueprint.route("/webhooks/<uuid:webhook_id>", methods=["PUT"])
@older
@blueprint.arguments(OlderWebhookChangeSchema)
@blueprint.response(200, WrappedWebhookSchema)
def change_webhook(body: dict[str, Any], webhook_id: UUID) -> Response:
    """Change an endpoint; what is not given stays as it is."""
    webhook = webhook_queries.own_webhook(webhook_id, current_identity())
    webhook_actions.change_webhook(webhook, body)
    return _webhook_answer(webhook)


@blueprint.route("/webhooks/<uuid:webhook_id>", methods=["DELETE"])
@older
@blueprint.response(200, DoneSchema)
def delete_webhook(webhook_id: UUID) -> Response:
    """Delete an endpoint with its delivery log."""
    webhook_actions.delete_webhook(webhook_queries.own_webhook(webhook_id, current_identity()))
    return json_answer({"message": "Webhook deleted successfully"})


@blueprint.route("/analyze/jobs/<uuid:job_id>", methods=["GET"])
@older
@blueprint.response(200, AnalysisJobSchema)
def get_analysis_job(job_id: UUID) -> Response:
    """Read a job in the words of `queue-update`."""
    return _analysis_answer(job_id)


@blueprint.route("/analyze/jobs/user/<uuid:user_id>", methods=["GET"])
@older
@blueprint.arguments(AnalysisPageArguments, location="query")
@blueprint.response(200, AnalysisJobsSchema)
def list_analysis_jobs(arguments: dict[str, Any], user_id: UUID) -> Response:
    """List a user's jobs, newest first: your own, or as an operator those of anybody in your organization."""
    return json_answer(jobs_of(user_id, current_identity(), arguments["page"], analysis_job))


@blueprint.route("/analyze/jobs/<uuid:job_id>/cancel", methods=["POST"])
@older
@blueprint.arguments(AnalysisCancelSchema, required=False)
@blueprint.response(200, AnalysisJobSchema)
def cancel_analysis_job(body: dict[str, Any], job_id: UUID) -> Response:
    """Cancel a job: a waiting one at once, a running one as soon as it notices."""
    visible_job(job_id, current_identity())
    with transaction():
        cancel_job(job_id, body.get("reason"))
        record("job.cancel", "job", job_id, {"reason": body.get("reason")})
    return _analysis_answer(job_id)


def _analysis_answer(job_id: UUID) -> Response:
    return json_answer(analysis_job(with_place(shown_job(job_id, current_identity()))))


def _webhook_answer(webhook: Webhook, status: int = 200, **secret: str) -> Response:
    known = older_webhook(webhook_queries.webhook_json(webhook), webhook.user_id)
    return json_answer({"webhook": {**known, **secret}}, status)
