"""Shapes of the connections API."""

from __future__ import annotations

import marshmallow as ma
from marshmallow import validate

from service.connections.urls import MARIADB, MYSQL, POSTGRESQL, SQLITE, InvalidUrl, parse_url
from service.pagination import PaginationSchema

_NAME_RULES = [
    validate.Length(1, 200),
    validate.Regexp(r"[\s\S]*\S", error="Must not be blank."),
]


def _is_database_url(value: str) -> None:
    try:
        parse_url(value)
    except InvalidUrl as error:
        raise ma.ValidationError(str(error)) from None


def _url_field(*, required: bool) -> ma.fields.String:
    return ma.fields.String(
        required=required,
        load_only=True,
        validate=_is_database_url,
        metadata={
            "description": "postgresql://user:password@host:port/database, mysql://…, mariadb://… or "
            "sqlite:////folder/file.db; kept encrypted, never shown again",
            "example": "postgresql://reader:secret@db.example.com:5432/shop?sslmode=require",
        },
    )


class ConnectionCreateSchema(ma.Schema):
    """A database to register."""

    name = ma.fields.String(required=True, validate=_NAME_RULES)
    url = _url_field(required=True)


class ConnectionUpdateSchema(ma.Schema):
    """What to change of a connection."""

    name = ma.fields.String(validate=_NAME_RULES)
    url = _url_field(required=False)


class ConnectionViewSchema(ma.Schema):
    """A registered database."""

    id = ma.fields.UUID(required=True)
    userId = ma.fields.UUID(required=True)
    name = ma.fields.String(required=True)
    engine = ma.fields.String(
        required=True, allow_none=True, validate=validate.OneOf([POSTGRESQL, MYSQL, MARIADB, SQLITE, None])
    )
    host = ma.fields.String(required=True, allow_none=True)
    port = ma.fields.Integer(required=True, allow_none=True)
    database = ma.fields.String(required=True, allow_none=True)
    username = ma.fields.String(required=True, allow_none=True)
    createdAt = ma.fields.DateTime(required=True)
    updatedAt = ma.fields.DateTime(required=True)
    schemaRebuiltAt = ma.fields.DateTime(required=True, allow_none=True)


class ConnectionPageSchema(ma.Schema):
    """A page of registered databases."""

    data = ma.fields.List(ma.fields.Nested(ConnectionViewSchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)


class ProbeErrorSchema(ma.Schema):
    """Why a database could not be opened."""

    code = ma.fields.String(required=True)
    message = ma.fields.String(required=True)


class ProbeSchema(ma.Schema):
    """How the trial of a connection went."""

    ok = ma.fields.Boolean(required=True)
    latencyMs = ma.fields.Float()
    serverVersion = ma.fields.String()
    error = ma.fields.Nested(ProbeErrorSchema)


class RebuildSchema(ma.Schema):
    """How to rebuild a schema."""

    force = ma.fields.Boolean(
        load_default=False, metadata={"description": "Write the schema anew even when it has not changed"}
    )


class RebuildAnswerSchema(ma.Schema):
    """The job that rebuilds a schema."""

    jobId = ma.fields.UUID(required=True)
    message = ma.fields.String(required=True)


class CachedSchemaSchema(ma.Schema):
    """The schema of a database as the last rebuild saw it."""

    connectionId = ma.fields.UUID(required=True)
    jobId = ma.fields.UUID(required=True)
    fingerprint = ma.fields.String(required=True)
    rebuiltAt = ma.fields.DateTime(required=True)
    schema = ma.fields.Dict(
        required=True,
        metadata={"description": "engine, database, totals, and schemas with their tables, columns, keys and indexes"},
    )
