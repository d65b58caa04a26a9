"""Shapes of the dead letters' API."""

from __future__ import annotations

import marshmallow as ma

from service.jobs.schemas import ChoiceSchema, DeadLetterConditionsSchema, JobSchema, ManySchema, RateSchema
from service.pagination import LongListArguments, PaginationSchema


class DeadLetterFilterSchema(LongListArguments, DeadLetterConditionsSchema):
    """The filters of the list of dead letters."""

    group = ma.fields.Boolean(
        load_default=False, metadata={"description": "true: groups of failures that are alike, the largest first"}
    )


class DeadLetterGroupSchema(ma.Schema):
    """Dead letters of one type that failed alike: messages differ in what is quoted and in words with digits only."""

    fingerprint = ma.fields.String(required=True, metadata={"description": "A filter that finds the group again"})
    type = ma.fields.String(required=True)
    code = ma.fields.String(required=True)
    message = ma.fields.String(required=True, metadata={"description": "Of the newest"})
    count = ma.fields.Integer(required=True)
    firstAt = ma.fields.DateTime(required=True)
    lastAt = ma.fields.DateTime(required=True)
    jobIds = ma.fields.List(ma.fields.UUID(), required=True, metadata={"description": "The newest few"})


class DeadLetterGroupsSchema(ma.Schema):
    """A page of groups."""

    data = ma.fields.List(ma.fields.Nested(DeadLetterGroupSchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)
    complete = ma.fields.Boolean(
        required=True, metadata={"description": "false: there are more than the 100,000 newest that were grouped"}
    )


class DeadLetterPageSchema(ma.Schema):
    """A page of dead letters."""

    data = ma.fields.List(ma.fields.Nested(JobSchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)


class DeadLetterSchema(JobSchema):
    """A dead letter."""

    payload = ma.fields.Dict(
        required=True, allow_none=True, metadata={"description": "null for a type whose payloads are not shown"}
    )


class ReplaySchema(ma.Schema):
    """How to replay a dead letter."""

    payload = ma.fields.Dict(
        keys=ma.fields.String(), metadata={"description": "For a new job in place of this one, which is discarded"}
    )


class DeadLetterChoiceSchema(DeadLetterConditionsSchema, ChoiceSchema):
    """Dead letters for something to be done to."""


class ReplayManySchema(ManySchema, RateSchema):
    """Which dead letters to replay, and how fast."""

    filter = ma.fields.Nested(DeadLetterChoiceSchema)
