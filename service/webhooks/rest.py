"""`/api/webhooks`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response
from flask_smorest import Blueprint

from service.accounts.identity import current_identity
from service.audit.actions import record
from service.crypto import decrypt
from service.pagination import Page, PageArguments
from service.web import json_answer
from service.webhooks import actions, queries
from service.webhooks.schemas import (
    DeliveryFilterSchema,
    DeliveryPageSchema,
    NewWebhookSchema,
    SecretSchema,
    WebhookChangeSchema,
    WebhookPageSchema,
    WebhookSchema,
)

blueprint = Blueprint("webhooks", __name__, url_prefix="/api/webhooks", description="Endpoints that are told by HTTP")


@blueprint.route("", methods=["GET"])
@blueprint.arguments(PageArguments, location="query")
@blueprint.response(200, WebhookPageSchema)
def list_webhooks(arguments: dict[str, Any]) -> Response:
    """List your endpoints."""
    page = Page.taken_from(arguments)
    return json_answer(queries.list_webhooks(current_identity(), page))


@blueprint.route("", methods=["POST"])
@blueprint.arguments(NewWebhookSchema)
@blueprint.response(201, WebhookSchema)
def create_webhook(body: dict[str, Any]) -> Response:
    """Create an endpoint; the answer carries the secret its signatures are made with."""
    identity = current_identity()
    webhook, secret = actions.create_webhook(identity.organization_id, identity.user_id, body)
    location = {"Location": f"/api/webhooks/{webhook.id}"}
    return json_answer({**queries.webhook_json(webhook), "secret": secret}, 201, location)


@blueprint.route("/<uuid:webhook_id>", methods=["GET"])
@blueprint.response(200, WebhookSchema)
def get_webhook(webhook_id: UUID) -> Response:
    """Read an endpoint."""
    return json_answer(queries.webhook_json(queries.own_webhook(webhook_id, current_identity())))


@blueprint.route("/<uuid:webhook_id>", methods=["PATCH"])
@blueprint.arguments(WebhookChangeSchema)
@blueprint.response(200, WebhookSchema)
def change_webhook(body: dict[str, Any], webhook_id: UUID) -> Response:
    """Change an endpoint; switching a disabled one on clears why it was disabled."""
    webhook = queries.own_webhook(webhook_id, current_identity())
    actions.change_webhook(webhook, body)
    return json_answer(queries.webhook_json(webhook))


@blueprint.route("/<uuid:webhook_id>", methods=["PUT"])
@blueprint.arguments(WebhookChangeSchema)
@blueprint.response(200, WebhookSchema)
def replace_webhook(body: dict[str, Any], webhook_id: UUID) -> Response:
    """Change an endpoint, as PATCH does."""
    webhook = queries.own_webhook(webhook_id, current_identity())
    actions.change_webhook(webhook, body)
    return json_answer(queries.webhook_json(webhook))


@blueprint.route("/<uuid:webhook_id>", methods=["DELETE"])
@blueprint.response(204)
def delete_webhook(webhook_id: UUID) -> None:
    """Delete an endpoint with its delivery log."""
    actions.delete_webhook(queries.own_webhook(webhook_id, current_identity()))


@blueprint.route("/<uuid:webhook_id>/secret", methods=["GET"])
@blueprint.response(200, SecretSchema)
def get_secret(webhook_id: UUID) -> Response:
    """Read the secret of an endpoint; each reading is noted in the audit log."""
    webhook = queries.own_webhook(webhook_id, current_identity())
    record("webhook.read_secret", "webhook", webhook.id)
    return json_answer({"secret": decrypt(webhook.secret)})


@blueprint.route("/<uuid:webhook_id>/deliveries", methods=["GET"])
@blueprint.arguments(DeliveryFilterSchema, location="query")
@blueprint.response(200, DeliveryPageSchema)
def list_deliveries(arguments: dict[str, Any], webhook_id: UUID) -> Response:
    """List what was sent to an endpoint, or will be, newest first, with every attempt."""
    webhook = queries.own_webhook(webhook_id, current_identity())
    page = Page.taken_from(arguments)
    return json_answer(queries.list_deliveries(webhook, arguments.get("status"), page))
