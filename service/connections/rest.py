"""`/api/connections`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response
from flask_smorest import Blueprint

from service.accounts.identity import current_identity
from service.connections import queries
from service.connections.actions import create_connection, delete_connection, update_connection
from service.connections.errors import ConnectionUnreadable
from service.connections.probe import Probe, probe
from service.connections.representation import connection_json, probe_json, schema_json
from service.connections.schemas import (
    CachedSchemaSchema,
    ConnectionCreateSchema,
    ConnectionPageSchema,
    ConnectionUpdateSchema,
    ConnectionViewSchema,
    ProbeSchema,
    RebuildAnswerSchema,
    RebuildSchema,
)
from service.database import transaction
from service.jobs.submission import Submission, submit_job
from service.pagination import Page, PageArguments, paginate
from service.settings import current_settings
from service.web import json_answer

blueprint = Blueprint(
    "connections", __name__, url_prefix="/api/connections", description="Register databases and read their schemas"
)


@blueprint.route("", methods=["GET"])
@blueprint.arguments(PageArguments, location="query")
@blueprint.response(200, ConnectionPageSchema)
def list_connections(arguments: dict[str, Any]) -> Response:
    """List your connections by name; operators see those of their organization."""
    page = Page.taken_from(arguments)
    return json_answer(paginate(queries.visible_connections(current_identity()), page, connection_json))


@blueprint.route("", methods=["POST"])
@blueprint.arguments(ConnectionCreateSchema)
@blueprint.response(201, ConnectionViewSchema)
def create(body: dict[str, Any]) -> Response:
    """Register a database."""
    connection = create_connection(current_identity(), name=body["name"], url=body["url"])
    return json_answer(connection_json(connection), 201, {"Location": f"/api/connections/{connection.id}"})


@blueprint.route("/<uuid:connection_id>", methods=["GET"])
@blueprint.response(200, ConnectionViewSchema)
def get_connection(connection_id: UUID) -> Response:
    """Read a connection, without its password."""
    return json_answer(connection_json(queries.visible_connection(connection_id, current_identity())))


@blueprint.route("/<uuid:connection_id>", methods=["PATCH"])
@blueprint.arguments(ConnectionUpdateSchema)
@blueprint.response(200, ConnectionViewSchema)
def update(body: dict[str, Any], connection_id: UUID) -> Response:
    """Change the name or the URL of a connection."""
    return json_answer(connection_json(update_connection(connection_id, current_identity(), **body)))


@blueprint.route("/<uuid:connection_id>", methods=["DELETE"])
@blueprint.response(204)
def delete(connection_id: UUID) -> None:
    """Forget a connection and its cached schema."""
    delete_connection(connection_id, current_identity())


@blueprint.route("/<uuid:connection_id>/test", methods=["POST"])
@blueprint.response(200, ProbeSchema)
def test(connection_id: UUID) -> Response:
    """Try to open a connection."""
    # The transaction ends before the network is asked: a slow database must not hold one of ours.
    with transaction():
        connection = queries.own_connection(connection_id, current_identity().user_id)
        try:
            endpoint = queries.endpoint_of(connection)
        except ConnectionUnreadable as failure:
            return json_answer(probe_json(Probe(0.0, failure=failure)))
    return json_answer(probe_json(probe(endpoint, current_settings())))


@blueprint.route("/<uuid:connection_id>/rebuild", methods=["POST"])
@blueprint.arguments(RebuildSchema, required=False)
@blueprint.response(202, RebuildAnswerSchema)
def rebuild(body: dict[str, Any], connection_id: UUID) -> Response:
    """Queue a job that reads the schema of a database."""
    identity = current_identity()
    payload = {"connectionId": str(connection_id), "force": body.get("force", False)}
    job = submit_job(
        Submission(type="schema-rebuild", payload=payload),
        organization_id=identity.organization_id,
        user_id=identity.user_id,
    ).row
    answer = {"jobId": str(job["id"]), "message": "Schema rebuild job queued"}
    return json_answer(answer, 202, {"Location": f"/api/jobs/{job['id']}"})


@blueprint.route("/<uuid:connection_id>/schema", methods=["GET"])
@blueprint.response(200, CachedSchemaSchema)
def get_schema(connection_id: UUID) -> Response:
    """Read the schema that the last rebuild saw."""
    queries.visible_connection(connection_id, current_identity())
    return json_answer(schema_json(queries.cached_schema(connection_id)))
