"""Shapes of the audit log's API."""

from __future__ import annotations

import marshmallow as ma
from marshmallow import validate

from service.pagination import LongListArguments, PaginationSchema

_WORD = validate.Regexp(r"^[a-z_.-]{1,64}\Z", error="Not a word of the audit log.")


class AuditFilterSchema(LongListArguments):
    """The filters of the audit log."""

    action = ma.fields.String(validate=_WORD, metadata={"description": "Such as auth.login_failed"})
    actor_id = ma.fields.UUID(data_key="actorId")
    target_type = ma.fields.String(data_key="targetType", validate=_WORD, metadata={"description": "Such as job"})
    target_id = ma.fields.String(data_key="targetId", validate=validate.Regexp(r"^[\x20-\x7e]{1,200}\Z"))
    since = ma.fields.AwareDateTime(metadata={"description": "Done at this time or later"})
    until = ma.fields.AwareDateTime(metadata={"description": "Done before this time"})


class AuditEntrySchema(ma.Schema):
    """Something that somebody did."""

    id = ma.fields.UUID(required=True)
    action = ma.fields.String(required=True)
    actorId = ma.fields.UUID(required=True, allow_none=True, metadata={"description": "null: nobody who had logged in"})
    actorUsername = ma.fields.String(required=True, allow_none=True)
    targetType = ma.fields.String(required=True)
    targetId = ma.fields.String(required=True, allow_none=True)
    details = ma.fields.Dict(required=True)
    ip = ma.fields.String(required=True, allow_none=True)
    userAgent = ma.fields.String(required=True, allow_none=True)
    requestId = ma.fields.String(required=True, allow_none=True)
    createdAt = ma.fields.DateTime(required=True)


class AuditPageSchema(ma.Schema):
    """A page of the audit log."""

    data = ma.fields.List(ma.fields.Nested(AuditEntrySchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)
