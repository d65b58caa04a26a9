"""Shapes of what is sent to others."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import marshmallow as ma
from marshmallow import validate

from service.accounts.roles import ROLES
from service.clock import utcnow
from service.jobs.schemas import MAXIMUM_DELAY_SECONDS
from service.notifications.audience import MAXIMUM_USER_IDS
from service.notifications.buttons import ACTION, LINK, LONGEST_URL, MAXIMUM_BUTTONS
from service.notifications.preferences import CHANNELS, IN_APP
from service.notifications.preferences_schemas import TYPE_NAME
from service.notifications.sends import GENERAL
from service.pagination import PaginationSchema

MAXIMUM_SENDS = 100
# A copy of it goes to each recipient.
MAXIMUM_DATA_BYTES = 16_384
_WORD = validate.Regexp(r"[A-Za-z][A-Za-z0-9_.-]{0,49}\Z", error="A word of letters, digits, dots and dashes.")
# Of what has another name, nobody could have a preference.
_CATEGORY = validate.Regexp(TYPE_NAME.pattern + r"\Z", error="Must be a word such as job_status.")


def _small(value: dict[str, Any]) -> None:
    if len(json.dumps(value)) > MAXIMUM_DATA_BYTES:
        raise ma.ValidationError(f"Longer than {MAXIMUM_DATA_BYTES} bytes of JSON.")


def _within_ten_years(moment: datetime) -> None:
    if moment > utcnow() + timedelta(seconds=MAXIMUM_DELAY_SECONDS):
        raise ma.ValidationError("Must lie within ten years.")


class ChannelField(ma.fields.String):
    """A channel; `inApp` is `in_app` (S3)."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, *args, **kwargs)
        return IN_APP if text == "inApp" else text


class ButtonSchema(ma.Schema):
    """A button of a notification."""

    key = ma.fields.String(required=True, validate=validate.Length(1, 40))
    label = ma.fields.String(required=True, validate=validate.Length(1, 60))
    kind = ma.fields.String(
        validate=validate.OneOf([LINK, ACTION]), metadata={"description": "link where there is a url, else action"}
    )
    style = ma.fields.String(
        validate=validate.OneOf(["primary", "danger"]), metadata={"description": "How it may look"}
    )
    url = ma.fields.String(
        validate=validate.Length(1, LONGEST_URL), metadata={"description": "http://, https://, or a path of this site"}
    )


class NewSendSchema(ma.Schema):
    """Something to be told to users, to roles or to everybody of your organization."""

    type = ma.fields.String(required=True, validate=_WORD, metadata={"example": "informational"})
    title = ma.fields.String(validate=validate.Length(1, 200))
    message = ma.fields.String(validate=validate.Length(1, 10_000))
    category = ma.fields.String(
        load_default=GENERAL,
        validate=[_CATEGORY, validate.Length(max=50)],
        metadata={"description": "What recipients' preferences are asked by"},
    )
    data = ma.fields.Dict(keys=ma.fields.String(), load_default=dict, validate=_small)
    actions = ma.fields.List(
        ma.fields.Nested(ButtonSchema),
        load_default=None,
        allow_none=True,
        validate=validate.Length(max=MAXIMUM_BUTTONS),
        metadata={"description": "Buttons; those of the type approval have approve and reject before them"},
    )
    user_id = ma.fields.UUID(data_key="userId")
    user_ids = ma.fields.List(ma.fields.UUID(), data_key="userIds", validate=validate.Length(1, MAXIMUM_USER_IDS))
    roles = ma.fields.List(ma.fields.String(validate=validate.OneOf(ROLES)), validate=validate.Length(1, len(ROLES)))
    all = ma.fields.Boolean(metadata={"description": "Everybody of your organization"})
    channels = ma.fields.List(
        ChannelField(validate=validate.OneOf(CHANNELS), metadata={"description": "inApp is in_app"}),
        load_default=lambda: [IN_APP],
        validate=validate.Length(1, len(CHANNELS)),
    )
    send_at = ma.fields.AwareDateTime(
        data_key="sendAt",
        validate=_within_ten_years,
        metadata={"description": "Within ten years; at once where it is not given or has passed"},
    )
    expires_at = ma.fields.AwareDateTime(
        data_key="expiresAt",
        validate=_within_ten_years,
        metadata={"description": "When nobody is to hear of it any more, within ten years"},
    )
    template = ma.fields.String(
        validate=validate.Length(1, 100), metadata={"description": "Name of a template, for title and message"}
    )
    template_id = ma.fields.UUID(
        data_key="templateId", metadata={"description": "Id of any version of it, in place of its name"}
    )
    locale = ma.fields.String(validate=validate.Length(1, 35))
    variables = ma.fields.Dict(keys=ma.fields.String(), validate=_small)
    critical = ma.fields.Boolean(
        load_default=False,
        metadata={"description": "Goes out whatever its recipients muted, at any hour; administrators only"},
    )

    @ma.validates_schema
    def _to_somebody(self, data: dict[str, Any], **_: Any) -> None:
        if "user_id" in data and "user_ids" in data:
            raise ma.ValidationError("Give userId or userIds, not both.", "userId")
        if not any(data.get(name) for name in ("user_id", "user_ids", "roles", "all")):
            raise ma.ValidationError("Give userId, userIds, roles or all.", "userId")
        if "template" in data and "template_id" in data:
            raise ma.ValidationError("Give template or templateId, not both.", "template")


class SendBatchSchema(ma.Schema):
    """Notifications to be sent, all or none."""

    @ma.pre_load
    def _not_too_many(self, data: Any, **_: Any) -> Any:
        # Before each is looked at: a million wrong ones would make a million messages.
        given = data.get("notifications") if isinstance(data, dict) else None
        if isinstance(given, list) and len(given) > MAXIMUM_SENDS:
            raise ma.ValidationError({"notifications": [f"Length must be between 1 and {MAXIMUM_SENDS}."]})
        return data

    notifications = ma.fields.List(
        ma.fields.Nested(NewSendSchema), required=True, validate=validate.Length(1, MAXIMUM_SENDS)
    )


class ChannelJobSchema(ma.Schema):
    """The job that sends by a channel."""

    channel = ma.fields.String(required=True, validate=validate.OneOf(CHANNELS))
    jobId = ma.fields.UUID(required=True)


class AcceptedSendSchema(ma.Schema):
    """What was accepted."""

    id = ma.fields.UUID(required=True)
    jobs = ma.fields.List(ma.fields.Nested(ChannelJobSchema), required=True)


class AcceptedSendsSchema(ma.Schema):
    """What was accepted, in the order of the batch."""

    data = ma.fields.List(ma.fields.Nested(AcceptedSendSchema), required=True)


class SendJobSchema(ChannelJobSchema):
    """A job of a send, and how it is."""

    status = ma.fields.String(required=True)


class SendSummarySchema(ma.Schema):
    """Something that was sent, or is to be."""

    id = ma.fields.UUID(required=True)
    type = ma.fields.String(required=True)
    category = ma.fields.String(required=True)
    title = ma.fields.String(required=True)
    message = ma.fields.String(required=True)
    senderId = ma.fields.UUID(required=True, allow_none=True, metadata={"description": "null: the platform itself"})
    audience = ma.fields.Dict(required=True, metadata={"description": "{userIds?, roles?, all?}"})
    channels = ma.fields.List(ma.fields.String(validate=validate.OneOf(CHANNELS)), required=True)
    critical = ma.fields.Boolean(required=True)
    template = ma.fields.String(required=True, allow_none=True)
    sendAt = ma.fields.DateTime(required=True, allow_none=True)
    expiresAt = ma.fields.DateTime(required=True, allow_none=True)
    createdAt = ma.fields.DateTime(required=True)
    resolution = ma.fields.String(
        required=True, allow_none=True, metadata={"description": "Of an approval: the key of the button"}
    )
    resolvedBy = ma.fields.UUID(required=True, allow_none=True)
    resolvedAt = ma.fields.DateTime(required=True, allow_none=True)


class SendSchema(SendSummarySchema):
    """A send, and how far it has come."""

    status = ma.fields.String(
        required=True, validate=validate.OneOf(["scheduled", "sending", "completed", "failed", "cancelled"])
    )
    recipients = ma.fields.Integer(required=True)
    perChannel = ma.fields.Dict(
        required=True, metadata={"description": "By channel: {pending, sent, failed, held, suppressed, delivered}"}
    )
    jobs = ma.fields.List(ma.fields.Nested(SendJobSchema), required=True)


class SendPageSchema(ma.Schema):
    """A page of what was sent."""

    data = ma.fields.List(ma.fields.Nested(SendSummarySchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)


class TraceEntrySchema(ma.Schema):
    """What became of a notification by one channel."""

    id = ma.fields.UUID(required=True, allow_none=True)
    userId = ma.fields.UUID(required=True)
    channel = ma.fields.String(required=True, validate=validate.OneOf(CHANNELS))
    status = ma.fields.String(
        required=True,
        metadata={
            "description": "delivered, pending, sending, sent, failed, held, suppressed, skipped; digested: into a "
            "digest that is not kept any more"
        },
    )
    reason = ma.fields.String(required=True, allow_none=True, metadata={"description": "Why it is held or did not go"})
    digestId = ma.fields.UUID(
        required=True,
        allow_none=True,
        metadata={"description": "The digest that it went into; what became of it is what became of that"},
    )
    attempts = ma.fields.Integer(required=True)
    provider = ma.fields.String(required=True, allow_none=True)
    providerId = ma.fields.String(required=True, allow_none=True)
    error = ma.fields.String(required=True, allow_none=True)
    address = ma.fields.String(required=True, allow_none=True, metadata={"description": "Masked"})
    createdAt = ma.fields.DateTime(required=True, allow_none=True)
    sentAt = ma.fields.DateTime(required=True, allow_none=True)
    nextAttemptAt = ma.fields.DateTime(required=True, allow_none=True)


class TraceSchema(ma.Schema):
    """What became of a notification by each channel; of a send, a page of what became of it for each recipient."""

    data = ma.fields.List(ma.fields.Nested(TraceEntrySchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema)
