"""`/api/notification-templates`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response
from flask_smorest import Blueprint

from service.accounts.identity import current_identity, requires_role
from service.accounts.roles import ADMIN, OPERATOR, SENDER
from service.notification_templates import actions, queries
from service.notification_templates.builtin import BUILTINS
from service.notification_templates.models import NotificationTemplate
from service.notification_templates.rendering import Source, check_given, render_source
from service.notification_templates.representation import builtin_json, rendered_json, template_json
from service.notification_templates.schemas import (
    BuiltinTemplatesSchema,
    NewNotificationTemplateSchema,
    NotificationTemplateChangeSchema,
    NotificationTemplateFilterSchema,
    NotificationTemplatePageSchema,
    NotificationTemplateReplacementSchema,
    NotificationTemplateSchema,
    RenderedTemplateSchema,
    TemplatePreviewSchema,
    TemplateValuesSchema,
    TemplateVersionSchema,
    TestMessageSchema,
)
from service.pagination import Page, PageArguments
from service.web import json_answer

blueprint = Blueprint(
    "notification_templates",
    __name__,
    url_prefix="/api/notification-templates",
    description="The words of messages, with versions and in several languages",
)

WRITERS = (ADMIN, OPERATOR)
READERS = (*WRITERS, SENDER)


def _json(template: NotificationTemplate) -> dict[str, Any]:
    return template_json(template, queries.id_of(template))


@blueprint.route("", methods=["GET"])
@requires_role(*READERS)
@blueprint.arguments(NotificationTemplateFilterSchema, location="query")
@blueprint.response(200, NotificationTemplatePageSchema)
def list_templates(arguments: dict[str, Any]) -> Response:
    """List the templates of your organization by name and locale, each in its newest version."""
    page = Page.taken_from(arguments)
    return json_answer(queries.template_page(current_identity(), page, **arguments))


@blueprint.route("", methods=["POST"])
@requires_role(*WRITERS)
@blueprint.arguments(NewNotificationTemplateSchema)
@blueprint.response(201, NotificationTemplateSchema)
def create_template(body: dict[str, Any]) -> Response:
    """Keep a template; one that is named like a message of the platform takes its place."""
    template = actions.create_template(current_identity(), body)
    return json_answer(_json(template), 201, {"Location": f"/api/notification-templates/{template.id}"})


@blueprint.route("/builtin", methods=["GET"])
@requires_role(*READERS)
@blueprint.response(200, BuiltinTemplatesSchema)
def list_builtins() -> Response:
    """List the platform's own messages, with the variables that they are given."""
    return json_answer({"data": [builtin_json(each) for each in BUILTINS.values()]})


@blueprint.route("/preview", methods=["POST"])
@requires_role(*READERS)
@blueprint.arguments(TemplatePreviewSchema)
@blueprint.response(200, RenderedTemplateSchema)
def preview_source(body: dict[str, Any]) -> Response:
    """Render a template that is not kept."""
    channel, variables = body.pop("channel"), body.pop("variables")
    source = Source(**body, variables=variables.keys())
    check_given(source)
    return json_answer(rendered_json(render_source(source, variables, channel)))


@blueprint.route("/<uuid:template_id>", methods=["GET"])
@requires_role(*READERS)
@blueprint.arguments(TemplateVersionSchema, location="query", as_kwargs=True)
@blueprint.response(200, NotificationTemplateSchema)
def get_template(template_id: UUID, version: int | None) -> Response:
    """Read a template in its newest version, or in another one."""
    return json_answer(_json(queries.visible_template(template_id, current_identity(), version)))


@blueprint.route("/<uuid:template_id>", methods=["PUT"])
@requires_role(*WRITERS)
@blueprint.arguments(NotificationTemplateReplacementSchema)
@blueprint.response(200, NotificationTemplateSchema)
def replace_template(body: dict[str, Any], template_id: UUID) -> Response:
    """Write the next version: what is not given is as in a new template."""
    return json_answer(_json(actions.change_template(template_id, current_identity(), body)))


@blueprint.route("/<uuid:template_id>", methods=["PATCH"])
@requires_role(*WRITERS)
@blueprint.arguments(NotificationTemplateChangeSchema)
@blueprint.response(200, NotificationTemplateSchema)
def change_template(body: dict[str, Any], template_id: UUID) -> Response:
    """Write the next version: what is not given stays."""
    return json_answer(_json(actions.change_template(template_id, current_identity(), body)))


@blueprint.route("/<uuid:template_id>", methods=["DELETE"])
@requires_role(*WRITERS)
@blueprint.response(204)
def delete_template(template_id: UUID) -> None:
    """Delete a template with all its versions."""
    actions.delete_template(template_id, current_identity())


@blueprint.route("/<uuid:template_id>/versions", methods=["GET"])
@requires_role(*READERS)
@blueprint.arguments(PageArguments, location="query")
@blueprint.response(200, NotificationTemplatePageSchema)
def list_versions(arguments: dict[str, Any], template_id: UUID) -> Response:
    """List the versions of a template, the newest first."""
    template = queries.visible_template(template_id, current_identity())
    return json_answer(queries.version_page(template, Page.taken_from(arguments)))


@blueprint.route("/<uuid:template_id>/preview", methods=["POST"])
@requires_role(*READERS)
@blueprint.arguments(TemplateValuesSchema)
@blueprint.response(200, RenderedTemplateSchema)
def preview_template(body: dict[str, Any], template_id: UUID) -> Response:
    """Render a template without sending it."""
    template = queries.visible_template(template_id, current_identity())
    return json_answer(rendered_json(actions.preview(template, **body)))


@blueprint.route("/<uuid:template_id>/test", methods=["POST"])
@requires_role(*READERS)
@blueprint.arguments(TemplateValuesSchema)
@blueprint.response(202, TestMessageSchema)
def test_template(body: dict[str, Any], template_id: UUID) -> Response:
    """Send a rendered template to your own address."""
    template = queries.visible_template(template_id, current_identity())
    message_id = actions.send_test(template, current_identity(), **body)
    return json_answer({"messageId": str(message_id)}, 202)
