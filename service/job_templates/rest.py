"""`/api/job-templates`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response
from flask_smorest import Blueprint

from service.accounts.identity import current_identity
from service.job_templates import actions, queries
from service.job_templates.models import JobTemplate
from service.job_templates.representation import template_json
from service.job_templates.schemas import (
    NewTemplateSchema,
    TemplateChangeSchema,
    TemplateFilterSchema,
    TemplatePageSchema,
    TemplateRunSchema,
    TemplateSchema,
)
from service.jobs.requests import accepted_answer
from service.jobs.schemas import IdempotencySchema, JobSchema
from service.pagination import Page, paginate
from service.web import json_answer

blueprint = Blueprint(
    "job_templates", __name__, url_prefix="/api/job-templates", description="Submissions with gaps, kept to be run"
)


def _json(template: JobTemplate) -> dict[str, Any]:
    return template_json(template, current_identity().user_id)


@blueprint.route("", methods=["GET"])
@blueprint.arguments(TemplateFilterSchema, location="query")
@blueprint.response(200, TemplatePageSchema)
def list_templates(arguments: dict[str, Any]) -> Response:
    """List your templates and the shared ones by name; operators see all of their organization."""
    page = Page.taken_from(arguments)
    return json_answer(paginate(queries.visible_templates(current_identity(), **arguments), page, _json))


@blueprint.route("", methods=["POST"])
@blueprint.arguments(NewTemplateSchema)
@blueprint.response(201, TemplateSchema)
def create_template(body: dict[str, Any]) -> Response:
    """Keep a submission whose payload holds placeholders."""
    template = actions.create_template(current_identity(), body)
    return json_answer(_json(template), 201, {"Location": f"/api/job-templates/{template.id}"})


@blueprint.route("/<uuid:template_id>", methods=["GET"])
@blueprint.response(200, TemplateSchema)
def get_template(template_id: UUID) -> Response:
    """Read a template."""
    return json_answer(_json(queries.visible_template(template_id, current_identity())))


@blueprint.route("/<uuid:template_id>", methods=["PUT"])
@blueprint.arguments(NewTemplateSchema)
@blueprint.response(200, TemplateSchema)
def replace_template(body: dict[str, Any], template_id: UUID) -> Response:
    """Replace a template: what is not given is as in a new one."""
    return json_answer(_json(actions.change_template(template_id, current_identity(), body)))


@blueprint.route("/<uuid:template_id>", methods=["PATCH"])
@blueprint.arguments(TemplateChangeSchema)
@blueprint.response(200, TemplateSchema)
def change_template(body: dict[str, Any], template_id: UUID) -> Response:
    """Change a template; a shared one is changed by operators."""
    return json_answer(_json(actions.change_template(template_id, current_identity(), body)))


@blueprint.route("/<uuid:template_id>", methods=["DELETE"])
@blueprint.response(204)
def delete_template(template_id: UUID) -> None:
    """Delete a template; its jobs stay."""
    actions.delete_template(template_id, current_identity())


@blueprint.route("/<uuid:template_id>/run", methods=["POST"])
@blueprint.arguments(TemplateRunSchema)
@blueprint.arguments(IdempotencySchema, location="headers", as_kwargs=True)
@blueprint.response(202, JobSchema)
@blueprint.alt_response(200, schema=JobSchema, description="A unique job that there was stands for this run")
def run_template(body: dict[str, Any], template_id: UUID, idempotency_key: str | None) -> Response:
    """Submit a job of the template with values for its variables; the job is yours."""
    accepted = actions.run_template(template_id, current_identity(), idempotency_key=idempotency_key, **body)
    return accepted_answer(accepted)
