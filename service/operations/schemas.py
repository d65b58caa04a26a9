"""Shapes of the health answers."""

from __future__ import annotations

import marshmallow as ma


class LiveSchema(ma.Schema):
    """The process answers."""

    status = ma.fields.String(required=True)


class HealthSchema(ma.Schema):
    """What answers, and what does not."""

    status = ma.fields.String(required=True, validate=ma.validate.OneOf(["healthy", "unhealthy"]))
    checks = ma.fields.Dict(keys=ma.fields.String(), values=ma.fields.String(), required=True)


class JobsHealthSchema(ma.Schema):
    """How the jobs are."""

    status = ma.fields.String(required=True, validate=ma.validate.OneOf(["healthy", "degraded", "unhealthy"]))
    queueSize = ma.fields.Integer(required=True)
    activeJobs = ma.fields.Integer(required=True)
    failedJobs = ma.fields.Integer(required=True)
    lastProcessedAt = ma.fields.DateTime(required=True, allow_none=True)


class WebsocketHealthSchema(ma.Schema):
    """How the sockets of this process are."""

    status = ma.fields.String(required=True)
    connectedClients = ma.fields.Integer(required=True)
    uptime = ma.fields.Float(required=True, metadata={"description": "Seconds"})
