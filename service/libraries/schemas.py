"""Shapes of the libraries API."""

from __future__ import annotations

import marshmallow as ma
from marshmallow import validate

from service.libraries.recogniser import KINDS
from service.pagination import PageArguments, PaginationSchema

_NAME_RULES = [
    validate.Length(1, 200),
    validate.Regexp(r"[\s\S]*\S", error="Must not be blank."),
]
_PATH_RULES = validate.Length(1, 4096)
_ABOUT_PATH = {"description": "Absolute path of the folder, below one that this installation allows"}


class LibraryCreateSchema(ma.Schema):
    """A folder of films and series to register."""

    name = ma.fields.String(required=True, validate=_NAME_RULES)
    path = ma.fields.String(required=True, validate=_PATH_RULES, metadata=_ABOUT_PATH)
    enabled = ma.fields.Boolean(load_default=True, metadata={"description": "Whether scheduled scans include it"})


class LibraryUpdateSchema(ma.Schema):
    """What to change of a library."""

    name = ma.fields.String(validate=_NAME_RULES)
    path = ma.fields.String(validate=_PATH_RULES, metadata=_ABOUT_PATH)
    enabled = ma.fields.Boolean()


class LibrarySchema(ma.Schema):
    """A folder of films and series."""

    id = ma.fields.UUID(required=True)
    userId = ma.fields.UUID(required=True)
    name = ma.fields.String(required=True)
    path = ma.fields.String(required=True)
    enabled = ma.fields.Boolean(required=True)
    lastScannedAt = ma.fields.DateTime(required=True, allow_none=True)
    createdAt = ma.fields.DateTime(required=True)
    updatedAt = ma.fields.DateTime(required=True)


class LibraryPageSchema(ma.Schema):
    """A page of libraries."""

    data = ma.fields.List(ma.fields.Nested(LibrarySchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)


class ScanAnswerSchema(ma.Schema):
    """The job that scans a library."""

    jobId = ma.fields.UUID(required=True)
    message = ma.fields.String(required=True)


class ItemFilterSchema(PageArguments):
    """The filters of the items of a library."""

    kind = ma.fields.String(validate=validate.OneOf(KINDS))
    gone = ma.fields.Boolean(
        metadata={"description": "true: only files that are gone, false: only those that are there"}
    )
    q = ma.fields.String(validate=validate.Length(1, 200), metadata={"description": "Part of the title or path"})


class ItemSchema(ma.Schema):
    """A video file of a library."""

    id = ma.fields.UUID(required=True)
    path = ma.fields.String(required=True, metadata={"description": "From the library's folder"})
    kind = ma.fields.String(required=True, validate=validate.OneOf(KINDS))
    title = ma.fields.String(required=True)
    year = ma.fields.Integer(required=True, allow_none=True)
    season = ma.fields.Integer(required=True, allow_none=True)
    episode = ma.fields.Integer(required=True, allow_none=True)
    details = ma.fields.Dict(
        required=True, metadata={"description": "resolution, source, releaseGroup, episodeTitle, …"}
    )
    sizeBytes = ma.fields.Integer(required=True)
    modifiedAt = ma.fields.DateTime(required=True)
    firstSeenAt = ma.fields.DateTime(required=True)
    changedAt = ma.fields.DateTime(required=True)
    goneAt = ma.fields.DateTime(required=True, allow_none=True)


class ItemPageSchema(ma.Schema):
    """A page of the items of a library."""

    data = ma.fields.List(ma.fields.Nested(ItemSchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)
