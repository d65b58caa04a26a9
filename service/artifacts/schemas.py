"""Shapes of the artifacts API."""

from __future__ import annotations

import marshmallow as ma


class ArtifactSchema(ma.Schema):
    """A file that a job left."""

    id = ma.fields.UUID(required=True)
    name = ma.fields.String(required=True)
    attempt = ma.fields.Integer(required=True)
    contentType = ma.fields.String(required=True)
    size = ma.fields.Integer(required=True, metadata={"description": "Bytes"})
    sha256 = ma.fields.String(required=True, metadata={"description": "Hexadecimal; the ETag of the download too"})
    createdAt = ma.fields.DateTime(required=True)
    expiresAt = ma.fields.DateTime(required=True)
    downloadUrl = ma.fields.String(required=True, metadata={"description": "Path on this host"})


class ArtifactListSchema(ma.Schema):
    """The files that a job left."""

    data = ma.fields.List(ma.fields.Nested(ArtifactSchema), required=True)
