"""Shapes of the webhooks API."""

from __future__ import annotations

import marshmallow as ma
from marshmallow import validate

from service.pagination import LongListArguments, PaginationSchema
from service.webhooks.guard import UnsafeURL, check_url

EVENT_TYPES = ("progress", "completed", "failed", "all", "created", "started", "cancelled")
PAYLOAD_FORMATS = ("standard", "flat")
DELIVERY_STATUSES = ("pending", "delivering", "delivered", "failed", "skipped")


def _is_url(value: str) -> None:
    try:
        check_url(value)
    except UnsafeURL as error:
        raise ma.ValidationError(f"This URL cannot be used: {error}") from None


class WebhookFields(ma.Schema):
    """What may be said of an endpoint."""

    url = ma.fields.String(validate=[validate.Length(1, 2048), _is_url])
    event_type = ma.fields.String(data_key="eventType", validate=validate.OneOf(EVENT_TYPES))
    description = ma.fields.String(allow_none=True, validate=validate.Length(max=500))
    payload_format = ma.fields.String(data_key="payloadFormat", validate=validate.OneOf(PAYLOAD_FORMATS))


class NewWebhookSchema(WebhookFields):
    """An endpoint to be made."""

    url = ma.fields.String(required=True, validate=[validate.Length(1, 2048), _is_url])
    event_type = ma.fields.String(required=True, data_key="eventType", validate=validate.OneOf(EVENT_TYPES))


class WebhookChangeSchema(WebhookFields):
    """What is to change about an endpoint."""

    active = ma.fields.Boolean()


class WebhookSchema(ma.Schema):
    """An endpoint."""

    id = ma.fields.UUID(required=True)
    url = ma.fields.String(required=True)
    eventType = ma.fields.String(required=True)
    description = ma.fields.String(required=True, allow_none=True)
    payloadFormat = ma.fields.String(required=True)
    active = ma.fields.Boolean(required=True)
    disabledReason = ma.fields.String(required=True, allow_none=True)
    createdAt = ma.fields.DateTime(required=True)
    updatedAt = ma.fields.DateTime(required=True)
    secret = ma.fields.String(metadata={"description": "Only in the answer that creates the endpoint"})


class WebhookPageSchema(ma.Schema):
    """A page of endpoints."""

    data = ma.fields.List(ma.fields.Nested(WebhookSchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)


class SecretSchema(ma.Schema):
    """The secret of an endpoint."""

    secret = ma.fields.String(required=True)


class DeliveryFilterSchema(LongListArguments):
    """The filters of the delivery log."""

    status = ma.fields.String(validate=validate.OneOf(DELIVERY_STATUSES))


class AttemptSchema(ma.Schema):
    """One POST and what came of it."""

    attempt = ma.fields.Integer(required=True)
    statusCode = ma.fields.Integer(required=True, allow_none=True)
    errorClass = ma.fields.String(required=True, allow_none=True)
    resolvedAddress = ma.fields.String(required=True, allow_none=True)
    responseHeaders = ma.fields.Dict(required=True, allow_none=True)
    responseBody = ma.fields.String(required=True, allow_none=True)
    timings = ma.fields.Dict(required=True, metadata={"description": "Milliseconds of each phase"})
    createdAt = ma.fields.DateTime(required=True)


class DeliverySchema(ma.Schema):
    """An event on its way to an endpoint."""

    id = ma.fields.UUID(required=True, metadata={"description": "The webhook-id of every attempt"})
    eventType = ma.fields.String(required=True)
    jobId = ma.fields.UUID(required=True, allow_none=True)
    status = ma.fields.String(required=True, validate=validate.OneOf(DELIVERY_STATUSES))
    attempts = ma.fields.List(ma.fields.Nested(AttemptSchema), required=True)
    nextAttemptAt = ma.fields.DateTime(required=True, allow_none=True)
    createdAt = ma.fields.DateTime(required=True)


class DeliveryPageSchema(ma.Schema):
    """A page of the delivery log."""

    data = ma.fields.List(ma.fields.Nested(DeliverySchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)
