"""`/api/webhooks` and `/api/webhook-deliveries`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response
from flask_smorest import Blueprint

from service.accounts.identity import current_identity
from service.audit.actions import record
from service.clock import isoformat
from service.crypto import decrypt
from service.pagination import Page, PageArguments
from service.web import json_answer
from service.webhooks import actions, queries
from service.webhooks.catalogue import catalogue_json
from service.webhooks.deliveries import resend, send_sample
from service.webhooks.recovery import Missed, submit_recovery
from service.webhooks.rotation import rotate_secret
from service.webhooks.schemas import (
    CatalogueSchema,
    DeliveryFilterSchema,
    DeliveryPageSchema,
    DeliverySchema,
    NewWebhookSchema,
    RecoveryAnswerSchema,
    RecoverySchema,
    RotatedSchema,
    RotationSchema,
    SampleSchema,
    SecretSchema,
    WebhookChangeSchema,
    WebhookPageSchema,
    WebhookSchema,
)

blueprint = Blueprint("webhooks", __name__, url_prefix="/api", description="Endpoints that are told by HTTP")


@blueprint.route("/webhooks", methods=["GET"])
@blueprint.arguments(PageArguments, location="query")
@blueprint.response(200, WebhookPageSchema)
def list_webhooks(arguments: dict[str, Any]) -> Response:
    """List your endpoints."""
    page = Page.taken_from(arguments)
    return json_answer(queries.list_webhooks(current_identity(), page))


@blueprint.route("/webhooks", methods=["POST"])
@blueprint.arguments(NewWebhookSchema)
@blueprint.response(201, WebhookSchema)
def create_webhook(body: dict[str, Any]) -> Response:
    """Create an endpoint; the answer carries the secret its signatures are made with."""
    identity = current_identity()
    webhook, secret = actions.create_webhook(identity.organization_id, identity.user_id, body)
    location = {"Location": f"/api/webhooks/{webhook.id}"}
    return json_answer({**queries.webhook_json(webhook), "secret": secret}, 201, location)


@blueprint.route("/webhooks/event-types", methods=["GET"])
@blueprint.response(200, CatalogueSchema)
def list_event_types() -> Response:
    """List the events that an endpoint can ask for, with the JSON Schema and a sample of each body."""
    return json_answer(catalogue_json())


@blueprint.route("/webhooks/<uuid:webhook_id>", methods=["GET"])
@blueprint.response(200, WebhookSchema)
def get_webhook(webhook_id: UUID) -> Response:
    """Read an endpoint."""
    return json_answer(queries.webhook_json(queries.own_webhook(webhook_id, current_identity())))


@blueprint.route("/webhooks/<uuid:webhook_id>", methods=["PATCH"])
@blueprint.arguments(WebhookChangeSchema)
@blueprint.response(200, WebhookSchema)
def change_webhook(body: dict[str, Any], webhook_id: UUID) -> Response:
    """Change an endpoint; one that the platform switched off is tried with a test event when it is switched on."""
    webhook = queries.own_webhook(webhook_id, current_identity())
    actions.change_webhook(webhook, body)
    return json_answer(queries.webhook_json(webhook))


@blueprint.route("/webhooks/<uuid:webhook_id>", methods=["PUT"])
@blueprint.arguments(WebhookChangeSchema)
@blueprint.response(200, WebhookSchema)
def replace_webhook(body: dict[str, Any], webhook_id: UUID) -> Response:
    """Change an endpoint, as PATCH does."""
    webhook = queries.own_webhook(webhook_id, current_identity())
    actions.change_webhook(webhook, body)
    return json_answer(queries.webhook_json(webhook))


@blueprint.route("/webhooks/<uuid:webhook_id>", methods=["DELETE"])
@blueprint.response(204)
def delete_webhook(webhook_id: UUID) -> None:
    """Delete an endpoint with its delivery log."""
    actions.delete_webhook(queries.own_webhook(webhook_id, current_identity()))


@blueprint.route("/webhooks/<uuid:webhook_id>/secret", methods=["GET"])
@blueprint.response(200, SecretSchema)
def get_secret(webhook_id: UUID) -> Response:
    """Read the secret of an endpoint; each reading is noted in the audit log."""
    webhook = queries.own_webhook(webhook_id, current_identity())
    record("webhook.read_secret", "webhook", webhook.id)
    return json_answer({"secret": decrypt(webhook.secret)})


@blueprint.route("/webhooks/<uuid:webhook_id>/rotate-secret", methods=["POST"])
@blueprint.arguments(RotationSchema, required=False)
@blueprint.response(200, RotatedSchema)
def rotate(body: dict[str, Any], webhook_id: UUID) -> Response:
    """Exchange the secret of an endpoint, and its key pair; those up to now sign too for a while."""
    webhook = queries.own_webhook(webhook_id, current_identity())
    rotated = rotate_secret(webhook, body["overlap"])
    return json_answer(
        {
            "secret": rotated.secret,
            "publicKey": webhook.public_key,
            "oldSecretValidUntil": isoformat(rotated.old_valid_until),
        }
    )


@blueprint.route("/webhooks/<uuid:webhook_id>/test", methods=["POST"])
@blueprint.arguments(SampleSchema, required=False)
@blueprint.response(202, DeliverySchema)
def test_webhook(body: dict[str, Any], webhook_id: UUID) -> Response:
    """Send the sample of an event to an endpoint at once, whatever it asks for; the delivery shows what comes of it."""
    webhook = queries.own_webhook(webhook_id, current_identity())
    return _delivery_answer(send_sample(webhook, body["event_type"]))


@blueprint.route("/webhooks/<uuid:webhook_id>/recover", methods=["POST"])
@blueprint.arguments(RecoverySchema)
@blueprint.response(202, RecoveryAnswerSchema)
def recover(body: dict[str, Any], webhook_id: UUID) -> Response:
    """Have a job send anew what an endpoint missed since a time: what failed, or came while it was switched off."""
    identity = current_identity()
    webhook = queries.own_webhook(webhook_id, identity)
    rate = body.pop("rate")
    job_id, count = submit_recovery(webhook, Missed(webhook_id=webhook_id, **body), rate, identity)
    return json_answer({"jobId": str(job_id), "count": count}, 202, {"Location": f"/api/jobs/{job_id}"})


@blueprint.route("/webhooks/<uuid:webhook_id>/deliveries", methods=["GET"])
@blueprint.arguments(DeliveryFilterSchema, location="query")
@blueprint.response(200, DeliveryPageSchema)
def list_deliveries(arguments: dict[str, Any], webhook_id: UUID) -> Response:
    """List what was sent to an endpoint, or will be, newest first, with every attempt."""
    webhook = queries.own_webhook(webhook_id, current_identity())
    page = Page.taken_from(arguments)
    return json_answer(queries.list_deliveries(webhook, queries.DeliveryFilter(**arguments), page))


@blueprint.route("/webhook-deliveries/<uuid:delivery_id>", methods=["GET"])
@blueprint.response(200, DeliverySchema)
def get_delivery(delivery_id: UUID) -> Response:
    """Read a delivery with every attempt."""
    return json_answer(queries.delivery_json(queries.own_delivery(delivery_id, current_identity()).id))


@blueprint.route("/webhook-deliveries/<uuid:delivery_id>/resend", methods=["POST"])
@blueprint.response(202, DeliverySchema)
def resend_delivery(delivery_id: UUID) -> Response:
    """Send a delivery anew, at once and under the same webhook-id; one that fails is tried as often as a new one."""
    delivery = queries.own_delivery(delivery_id, current_identity())
    resend(delivery)
    return _delivery_answer(delivery_id)


def _delivery_answer(delivery_id: UUID) -> Response:
    location = {"Location": f"/api/webhook-deliveries/{delivery_id}"}
    return json_answer(queries.delivery_json(delivery_id), 202, location)
