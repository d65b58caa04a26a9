"""Shapes of the older paths; their clients may send more than is asked for, and it is passed over."""

from __future__ import annotations

import marshmallow as ma
from marshmallow import validate

from service.compat.words import PHASES, STATES
from service.jobs.schemas import CancelSchema
from service.pagination import MAXIMUM_LIMIT, MAXIMUM_PAGE, Page
from service.webhooks.schemas import NewWebhookSchema, WebhookChangeSchema

# What an endpoint can be told since, and what it could be asked for until then.
NEWER_FIELDS = ("payload_format", "headers", "rate_limit", "signature_scheme")
OLDER_EVENT_TYPES = ("progress", "completed", "failed", "all")


class OlderPageArguments(ma.Schema):
    """Which page of an older list."""

    class Meta:
        """Its clients may have arguments of their own."""

        unknown = ma.EXCLUDE

    page = ma.fields.Integer(load_default=1, validate=validate.Range(1, MAXIMUM_PAGE))
    limit = ma.fields.Integer(
        load_default=10,
        validate=validate.Range(1),
        metadata={"description": f"More than {MAXIMUM_LIMIT} are {MAXIMUM_LIMIT}"},
    )

    @ma.post_load
    def _bounded(self, data: dict[str, int], **_: object) -> dict[str, object]:
        page = Page(data.pop("page"), min(data.pop("limit"), MAXIMUM_LIMIT))
        return {**data, "page": page}


class PolledFilterSchema(OlderPageArguments):
    """Which of a user's jobs."""

    # A client whose form says "any" sends it empty.
    status = ma.fields.String(load_default="", validate=validate.OneOf([*STATES, ""]))


class AnalysisPageArguments(OlderPageArguments):
    """Which page of a user's jobs; as many as may be where nothing is said, for S4 knows no pages."""

    limit = ma.fields.Integer(load_default=MAXIMUM_LIMIT, validate=validate.Range(1))


class AnalysisCancelSchema(CancelSchema):
    """Why a job is cancelled."""

    class Meta:
        """What else is said is passed over."""

        unknown = ma.EXCLUDE


class OlderPaginationSchema(ma.Schema):
    """Where a page lies in its list."""

    total = ma.fields.Integer(required=True)
    page = ma.fields.Integer(required=True)
    limit = ma.fields.Integer(required=True)
    pages = ma.fields.Integer(required=True)
    totalIsEstimate = ma.fields.Boolean(
        metadata={"description": "Only there, and true, where the list is too long to be counted: about so many"}
    )


class TimestampSchema(ma.Schema):
    """When a job was submitted, when its present attempt began, and when it ended."""

    created = ma.fields.Integer(required=True, metadata={"description": "Milliseconds since 1970"})
    started = ma.fields.Integer(required=True, allow_none=True, metadata={"description": "Milliseconds since 1970"})
    finished = ma.fields.Integer(required=True, allow_none=True, metadata={"description": "Milliseconds since 1970"})


class ListedJobSchema(ma.Schema):
    """A job in a list."""

    id = ma.fields.UUID(required=True)
    name = ma.fields.String(required=True)
    state = ma.fields.String(required=True, validate=validate.OneOf(STATES))
    progress = ma.fields.Float(required=True, metadata={"description": "0 to 100"})
    timestamp = ma.fields.Nested(TimestampSchema, required=True)


class PolledJobSchema(ListedJobSchema):
    """A job."""

    result = ma.fields.Raw(required=True, allow_none=True)
    failedReason = ma.fields.String(
        required=True, allow_none=True, metadata={"description": "Why it, or its last attempt, failed"}
    )


class ListedJobsSchema(ma.Schema):
    """A page of a user's jobs."""

    jobs = ma.fields.List(ma.fields.Nested(ListedJobSchema), required=True)
    pagination = ma.fields.Nested(OlderPaginationSchema, required=True)


class OlderNewWebhookSchema(NewWebhookSchema):
    """An endpoint to be made; it gets the flat payload."""

    class Meta:
        """Its clients send the whole object that their form shows."""

        unknown = ma.EXCLUDE
        exclude = NEWER_FIELDS

    event_type = ma.fields.String(required=True, data_key="eventType", validate=validate.OneOf(OLDER_EVENT_TYPES))


class OlderWebhookChangeSchema(WebhookChangeSchema):
    """What is to change about an endpoint."""

    class Meta:
        """Its clients send the whole object that their form shows."""

        unknown = ma.EXCLUDE
        exclude = NEWER_FIELDS

    event_type = ma.fields.String(data_key="eventType", validate=validate.OneOf(OLDER_EVENT_TYPES))


class OlderWebhookSchema(ma.Schema):
    """An endpoint."""

    id = ma.fields.UUID(required=True)
    url = ma.fields.String(required=True)
    eventType = ma.fields.String(required=True)
    description = ma.fields.String(required=True, allow_none=True)
    active = ma.fields.Boolean(required=True)
    createdAt = ma.fields.DateTime(required=True)
    updatedAt = ma.fields.DateTime(required=True)
    userId = ma.fields.UUID(required=True)
    secret = ma.fields.String(metadata={"description": "Only in the answer that creates the endpoint"})


class WrappedWebhookSchema(ma.Schema):
    """One endpoint."""

    webhook = ma.fields.Nested(OlderWebhookSchema, required=True)


class WrappedWebhooksSchema(ma.Schema):
    """A user's endpoints."""

    webhooks = ma.fields.List(ma.fields.Nested(OlderWebhookSchema), required=True)


class DoneSchema(ma.Schema):
    """What was done."""

    message = ma.fields.String(required=True)


class AnalysisErrorSchema(ma.Schema):
    """Why a job, or its last attempt, failed."""

    message = ma.fields.String(required=True)
    code = ma.fields.String(required=True)


class AnalysisJobSchema(ma.Schema):
    """A job, in the words of `queue-update`."""

    jobId = ma.fields.UUID(required=True)
    jobType = ma.fields.String(required=True)
    userId = ma.fields.UUID(required=True)
    status = ma.fields.String(required=True, validate=validate.OneOf(PHASES))
    progress = ma.fields.Float(required=True, metadata={"description": "0 to 100"})
    stage = ma.fields.String(required=True)
    result = ma.fields.Raw(required=True, allow_none=True)
    error = ma.fields.Nested(AnalysisErrorSchema, required=True, allow_none=True)
    reason = ma.fields.String(required=True, allow_none=True, metadata={"description": "Why it was cancelled"})
    queuePosition = ma.fields.Integer(metadata={"description": "While it is queued: 1 is the next to run"})
    estimatedWaitSeconds = ma.fields.Float(metadata={"description": "While it is queued, as far as can be told"})
    createdAt = ma.fields.DateTime(required=True)
    startedAt = ma.fields.DateTime(required=True, allow_none=True)
    completedAt = ma.fields.DateTime(required=True, allow_none=True)


class AnalysisJobsSchema(ma.Schema):
    """A page of a user's jobs."""

    jobs = ma.fields.List(ma.fields.Nested(AnalysisJobSchema), required=True)
    pagination = ma.fields.Nested(OlderPaginationSchema, required=True)
