"""Shapes of queues and limits."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import marshmallow as ma
from marshmallow import validate

from service.jobs.limits import BUCKET, KINDS, Limit, Rate
from service.jobs.registry import find_job_type

MAXIMUM_PERIOD_SECONDS = 30 * 86400


class QueueSchema(ma.Schema):
    """A queue."""

    name = ma.fields.String(required=True)
    state = ma.fields.String(required=True, validate=validate.OneOf(["running", "paused", "draining", "drained"]))
    paused = ma.fields.Boolean(required=True)
    pausedAt = ma.fields.DateTime(required=True, allow_none=True)
    drainingSince = ma.fields.DateTime(
        required=True, allow_none=True, metadata={"description": "Jobs submitted after this wait for a resume"}
    )
    depth = ma.fields.Integer(required=True, metadata={"description": "Queued jobs"})
    held = ma.fields.Integer(required=True, metadata={"description": "Of those, not sent to the workers yet"})
    limited = ma.fields.Integer(required=True, metadata={"description": "Of those, waiting for a limit"})
    active = ma.fields.Integer(required=True)
    oldestAgeSeconds = ma.fields.Float(required=True, allow_none=True)
    ratePerMinute = ma.fields.Float(required=True, allow_none=True)
    meanSeconds = ma.fields.Float(required=True, allow_none=True)
    processes = ma.fields.Integer(required=True, allow_none=True)
    workers = ma.fields.List(ma.fields.String(), required=True)


class QueueListSchema(ma.Schema):
    """The queues of the installation."""

    data = ma.fields.List(ma.fields.Nested(QueueSchema), required=True)


class RateSchema(ma.Schema):
    """Starts in a time."""

    limit = ma.fields.Integer(required=True, validate=validate.Range(1, 1_000_000))
    period = ma.fields.Float(
        required=True, validate=validate.Range(0.1, MAXIMUM_PERIOD_SECONDS), metadata={"description": "Seconds"}
    )
    kind = ma.fields.String(
        load_default=BUCKET,
        validate=validate.OneOf(KINDS),
        metadata={"description": "bucket: evenly refilled; window: counted anew in each period"},
    )

    @ma.post_load
    def _made(self, data: dict[str, Any], **_: Any) -> Rate:
        return Rate(**data)


class LimitBodySchema(ma.Schema):
    """What a subject may do; null or absent: as much as there is."""

    concurrency = ma.fields.Integer(
        allow_none=True, load_default=None, validate=validate.Range(0, 1_000_000), metadata={"description": "At once"}
    )
    rate = ma.fields.Nested(RateSchema, allow_none=True, load_default=None)

    @ma.post_load
    def _made(self, data: dict[str, Any], **_: Any) -> Limit:
        return Limit(data["concurrency"], data["rate"])


class LimitSchema(ma.Schema):
    """A limit."""

    subject = ma.fields.String(
        required=True,
        metadata={"description": "type:<type>, key:<organization>:<type>:<key>, user:<id> or tenant:<id>"},
    )
    concurrency = ma.fields.Integer(required=True, allow_none=True)
    rate = ma.fields.Nested(RateSchema, required=True, allow_none=True)
    source = ma.fields.String(required=True, validate=validate.OneOf(["operator", "code"]))


class LimitListSchema(ma.Schema):
    """The limits in force."""

    data = ma.fields.List(ma.fields.Nested(LimitSchema), required=True)


def is_subject(text: str) -> bool:
    """Whether a text names something that can be limited."""
    scope, _, rest = text.partition(":")
    if scope == "type":
        return find_job_type(rest) is not None
    if scope in {"user", "tenant"}:
        return _is_id(rest)
    tenant, *more = rest.split(":", 2)
    return scope == "key" and len(more) == 2 and _is_id(tenant) and find_job_type(more[0]) is not None and more[1] != ""


def _is_id(text: str) -> bool:
    try:
        # Written otherwise it would be another subject.
        return str(UUID(text)) == text
    except ValueError:
        return False
