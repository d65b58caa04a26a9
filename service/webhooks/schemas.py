"""Shapes of the webhooks API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma
from marshmallow import validate

from service.pagination import LongListArguments, PaginationSchema
from service.webhooks.catalogue import EVENT_TYPES, KINDS, TYPES
from service.webhooks.guard import UnsafeURL, check_url
from service.webhooks.headers import MASK, MAXIMUM_HEADERS, MAXIMUM_VALUE_LENGTH, faults_of
from service.webhooks.payloads import PAYLOAD_FORMATS

V1 = "v1"
V1A = "v1a"
SCHEMES = (V1, V1A)
DELIVERY_STATUSES = ("pending", "delivering", "delivered", "failed", "skipped")
# What can be recovered.
UNDELIVERED = ("failed", "skipped")
CIRCUIT_STATES = ("closed", "open", "half_open")
MAXIMUM_RATE = 1_000
WEEK_SECONDS = 7 * 86_400


def _is_url(value: str) -> None:
    try:
        check_url(value)
    except UnsafeURL as error:
        raise ma.ValidationError(f"This URL cannot be used: {error}") from None


class WebhookFields(ma.Schema):
    """What may be said of an endpoint."""

    url = ma.fields.String(validate=[validate.Length(1, 2048), _is_url])
    event_type = ma.fields.String(
        data_key="eventType",
        validate=validate.OneOf(EVENT_TYPES),
        metadata={"description": "GET /api/webhooks/event-types says what each is"},
    )
    description = ma.fields.String(allow_none=True, validate=validate.Length(max=500))
    payload_format = ma.fields.String(
        data_key="payloadFormat",
        validate=validate.OneOf(PAYLOAD_FORMATS),
        metadata={"description": "`standard` (Standard Webhooks) where nothing is said; `flat`: the data alone"},
    )
    headers = ma.fields.Dict(
        keys=ma.fields.String(),
        values=ma.fields.String(metadata={"maxLength": MAXIMUM_VALUE_LENGTH}),
        metadata={
            "description": f"Sent with every request, in place of those before. `{MASK}`, as it is shown, for a value"
            " leaves it as it is.",
            "maxProperties": MAXIMUM_HEADERS,
        },
    )
    rate_limit = ma.fields.Integer(
        strict=True,
        data_key="rateLimit",
        allow_none=True,
        validate=validate.Range(1, MAXIMUM_RATE),
        metadata={"description": "Deliveries a second at most; null: as many as it takes"},
    )
    signature_scheme = ma.fields.String(
        data_key="signatureScheme",
        validate=validate.OneOf(SCHEMES),
        metadata={
            "description": "`v1` (HMAC with the secret) where nothing is said; `v1a`: an ed25519 signature beside it, "
            "which receivers verify with `publicKey`"
        },
    )

    # A method of its own, for the messages of a field's validators cannot name what lies below it.
    @ma.validates("headers")
    def _check_headers(self, headers: Mapping[str, str], **_: Any) -> None:
        if len(headers) > MAXIMUM_HEADERS:
            raise ma.ValidationError(f"Must be at most {MAXIMUM_HEADERS}.")
        if faults := faults_of(headers):
            raise ma.ValidationError(faults)


class NewWebhookSchema(WebhookFields):
    """An endpoint to be made."""

    url = ma.fields.String(required=True, validate=[validate.Length(1, 2048), _is_url])
    event_type = ma.fields.String(
        required=True,
        data_key="eventType",
        validate=validate.OneOf(EVENT_TYPES),
        metadata={"description": "GET /api/webhooks/event-types says what each is"},
    )


class WebhookChangeSchema(WebhookFields):
    """What is to change about an endpoint."""

    active = ma.fields.Boolean(
        metadata={"description": "true for one that the platform switched off: a test event goes first, then the rest"}
    )


class CircuitSchema(ma.Schema):
    """Whether an endpoint is sent to, is left alone for a while, or is tried with a single delivery."""

    state = ma.fields.String(required=True, validate=validate.OneOf(CIRCUIT_STATES))
    failures = ma.fields.Integer(required=True, metadata={"description": "In a row, for which the endpoint was down"})
    until = ma.fields.DateTime(required=True, allow_none=True, metadata={"description": "When an open one is tried"})


class WebhookSchema(ma.Schema):
    """An endpoint."""

    id = ma.fields.UUID(required=True)
    url = ma.fields.String(required=True)
    eventType = ma.fields.String(required=True, validate=validate.OneOf(EVENT_TYPES))
    description = ma.fields.String(required=True, allow_none=True)
    payloadFormat = ma.fields.String(required=True, validate=validate.OneOf(PAYLOAD_FORMATS))
    headers = ma.fields.Dict(
        required=True,
        keys=ma.fields.String(),
        values=ma.fields.String(),
        metadata={"description": f"Their names; each value is `{MASK}`"},
    )
    rateLimit = ma.fields.Integer(required=True, allow_none=True)
    signatureScheme = ma.fields.String(required=True, validate=validate.OneOf(SCHEMES))
    publicKey = ma.fields.String(
        required=True, allow_none=True, metadata={"description": "Of `v1a`: `whpk_` and what its signatures verify by"}
    )
    active = ma.fields.Boolean(required=True)
    disabledReason = ma.fields.String(
        required=True,
        allow_none=True,
        validate=validate.OneOf(["gone", "failing"]),
        metadata={"description": "Why the platform switched it off: it answered 410, or nothing but failures"},
    )
    failures = ma.fields.Integer(required=True, metadata={"description": "Attempts in a row that failed"})
    failingSince = ma.fields.DateTime(
        required=True, allow_none=True, metadata={"description": "Since when nothing has succeeded"}
    )
    circuit = ma.fields.Nested(
        CircuitSchema, required=True, allow_none=True, metadata={"description": "null: not known at this moment"}
    )
    backlog = ma.fields.Boolean(
        required=True,
        metadata={"description": "Deliveries wait for room: for its rate, for those under way, or for its circuit"},
    )
    oldSecretValidUntil = ma.fields.DateTime(
        required=True, allow_none=True, metadata={"description": "Until then exchanged secrets sign too"}
    )
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


class RotationSchema(ma.Schema):
    """How a secret is exchanged."""

    overlap = ma.fields.Integer(
        strict=True,
        data_key="overlapSeconds",
        load_default=86_400,
        validate=validate.Range(0, WEEK_SECONDS),
        metadata={"description": "For so long the secret up to now signs too; 0: it and all before it end at once"},
    )


class RotatedSchema(SecretSchema):
    """The new secret of an endpoint."""

    publicKey = ma.fields.String(required=True, allow_none=True, metadata={"description": "Of `v1a`: the new one"})
    oldSecretValidUntil = ma.fields.DateTime(required=True, allow_none=True)


class SampleSchema(ma.Schema):
    """Which event to send a sample of."""

    event_type = ma.fields.String(
        data_key="eventType",
        load_default=None,
        validate=validate.OneOf(tuple(KINDS)),
        metadata={"description": "Its sample is sent; `webhook.test` if not given, `completed` to a flat endpoint"},
    )


class RecoverySchema(ma.Schema):
    """Which deliveries to send anew, and how fast."""

    since = ma.fields.AwareDateTime(required=True, metadata={"description": "Events of this time or later"})
    until = ma.fields.AwareDateTime(load_default=None, metadata={"description": "Events before this time"})
    statuses = ma.fields.List(
        ma.fields.String(validate=validate.OneOf(UNDELIVERED)),
        load_default=list(UNDELIVERED),
        validate=validate.Length(1, len(UNDELIVERED)),
        metadata={"description": "`skipped` is what came while the endpoint was switched off"},
    )
    rate = ma.fields.Integer(
        strict=True,
        data_key="ratePerSecond",
        load_default=50,
        validate=validate.Range(1, MAXIMUM_RATE),
        metadata={"description": "Deliveries a second"},
    )

    @ma.validates_schema
    def _ends_after_it_begins(self, data: dict[str, Any], **_: Any) -> None:
        if data["until"] is not None and data["until"] <= data["since"]:
            raise ma.ValidationError("Must be after since.", "until")


class RecoveryAnswerSchema(ma.Schema):
    """The job that recovers deliveries."""

    jobId = ma.fields.UUID(required=True)
    count = ma.fields.Integer(required=True, metadata={"description": "Deliveries that it finds now"})


class DeliveryFilterSchema(LongListArguments):
    """The filters of the delivery log."""

    status = ma.fields.String(validate=validate.OneOf(DELIVERY_STATUSES))
    code = ma.fields.String(
        validate=validate.Regexp(r"^([1-5][0-9][0-9]|[1-5]xx|none)\Z", error="Must be like 500, 5xx or none."),
        metadata={"description": "What the last attempt was answered with: `500`, `5xx`, or `none` for no answer"},
    )
    event_type = ma.fields.String(
        data_key="eventType",
        validate=validate.OneOf(tuple(TYPES)),
        metadata={"description": "As endpoints ask for it or as bodies say it: `completed` or `job.completed`"},
    )
    since = ma.fields.AwareDateTime(metadata={"description": "Events of this time or later"})
    until = ma.fields.AwareDateTime(metadata={"description": "Events before this time"})


class AttemptRequestSchema(ma.Schema):
    """What was sent."""

    method = ma.fields.String(required=True)
    url = ma.fields.String(required=True)
    headers = ma.fields.Dict(
        required=True, metadata={"description": "Without the values of the endpoint's own headers"}
    )
    body = ma.fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "null in lists where it is longer than 4 KiB: read the delivery itself"},
    )


class AttemptSchema(ma.Schema):
    """One POST and what came of it."""

    attempt = ma.fields.Integer(required=True)
    request = ma.fields.Nested(
        AttemptRequestSchema, required=True, allow_none=True, metadata={"description": "null: nothing could be sent"}
    )
    statusCode = ma.fields.Integer(required=True, allow_none=True)
    errorClass = ma.fields.String(required=True, allow_none=True)
    resolvedAddress = ma.fields.String(required=True, allow_none=True)
    responseHeaders = ma.fields.Dict(required=True, allow_none=True)
    responseBody = ma.fields.String(required=True, allow_none=True, metadata={"description": "The first 4 KiB"})
    timings = ma.fields.Dict(required=True, metadata={"description": "Milliseconds of each phase"})
    createdAt = ma.fields.DateTime(required=True)


class DeliverySchema(ma.Schema):
    """An event on its way to an endpoint."""

    id = ma.fields.UUID(required=True, metadata={"description": "The webhook-id of every attempt"})
    webhookId = ma.fields.UUID(required=True)
    eventType = ma.fields.String(required=True, metadata={"description": "As the body says it: `job.completed`"})
    jobId = ma.fields.UUID(required=True, allow_none=True)
    status = ma.fields.String(required=True, validate=validate.OneOf(DELIVERY_STATUSES))
    statusCode = ma.fields.Integer(
        required=True, allow_none=True, metadata={"description": "What the last attempt was answered with"}
    )
    attempts = ma.fields.List(ma.fields.Nested(AttemptSchema), required=True)
    nextAttemptAt = ma.fields.DateTime(required=True, allow_none=True)
    createdAt = ma.fields.DateTime(required=True)


class DeliveryPageSchema(ma.Schema):
    """A page of the delivery log."""

    data = ma.fields.List(ma.fields.Nested(DeliverySchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)


class EventKindSchema(ma.Schema):
    """A kind of event."""

    eventType = ma.fields.String(
        required=True, allow_none=True, metadata={"description": "What an endpoint asks for; null where none can"}
    )
    type = ma.fields.String(required=True, metadata={"description": "What the body says"})
    description = ma.fields.String(required=True)
    schema = ma.fields.Dict(required=True, metadata={"description": "JSON Schema of the standard body"})
    flatSchema = ma.fields.Dict(required=True, metadata={"description": "JSON Schema of the flat body"})
    sample = ma.fields.Dict(required=True)
    flatSample = ma.fields.Dict(required=True)


class AllEventsSchema(ma.Schema):
    """What `all` stands for."""

    description = ma.fields.String(required=True)
    eventTypes = ma.fields.List(ma.fields.String(), required=True)
    flatEventTypes = ma.fields.List(ma.fields.String(), required=True)


class CatalogueSchema(ma.Schema):
    """The events that endpoints can ask for."""

    data = ma.fields.List(ma.fields.Nested(EventKindSchema), required=True)
    all = ma.fields.Nested(AllEventsSchema, required=True)
