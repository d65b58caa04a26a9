"""`schema-rebuild`: reads the schema of a registered database and keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from marshmallow import fields

from service.connections.actions import save_schema
from service.connections.drivers import open_database
from service.connections.errors import PermanentFailure
from service.connections.inspector import Inspection, inspect_schema
from service.connections.queries import endpoint_of, own_connection
from service.connections.reader import TABLE
from service.connections.urls import Endpoint
from service.database import transaction
from service.errors import CarillonError, ValidationFailed
from service.jobs.registry import Notices, job_type
from service.settings import current_settings
from tasks.context import JobContext

STEPS = (
    "Validating connection...",
    "Fetching schema metadata...",
    "Processing schema data...",
    "Schema rebuild completed",
)
# Schemas that the result speaks of; all of them stand in the kept schema.
MAXIMUM_SUMMARY = 100


def _check(user_id: UUID, payload: Mapping[str, Any]) -> None:
    if payload["user_id"] not in {None, user_id}:
        raise ValidationFailed(errors={"payload.userId": ["Must be your own id."]})
    own_connection(payload["connection_id"], user_id)


@job_type(
    "schema-rebuild",
    title="Schema Rebuild",
    payload={
        "connection_id": fields.UUID(data_key="connectionId", required=True),
        "user_id": fields.UUID(
            data_key="userId", allow_none=True, load_default=None, metadata={"description": "Your own id, if anything"}
        ),
        "force": fields.Boolean(load_default=False),
    },
    retry_limit=3,
    retry_delay=60.0,
    expire_in_seconds=24 * 3600.0,
    # A connection that is gone, or somebody else's by now, raises an error of the API.
    permanent=(PermanentFailure, CarillonError),
    stages=STEPS,
    tells_queued=True,
    notices=Notices(
        queued="Schema rebuild queued",
        started="Schema rebuild started",
        completed="Schema rebuild completed successfully",
        failed="Schema rebuild failed",
        cancelled="Schema rebuild cancelled",
    ),
    check=_check,
)
def schema_rebuild(ctx: JobContext, connection_id: UUID, user_id: UUID | None, force: bool) -> dict[str, Any]:  # noqa: ARG001
    """Reads tables, columns, keys and indexes of a registered database, and keeps them if they have changed."""
    _step(ctx, 1)
    endpoint = _endpoint(connection_id, ctx.user_id)
    with open_database(endpoint, current_settings()) as connection:
        _step(ctx, 2)
        inspection = inspect_schema(connection, endpoint, lambda table: _tell_table(ctx, table))
    _step(ctx, 3)
    changed = save_schema(connection_id, ctx.job_id, inspection, force=force)
    _step(ctx, 4)
    return {
        "success": True,
        **inspection.summary,
        "changed": changed,
        "fingerprint": inspection.fingerprint,
        "schemas": _summary(inspection),
    }


def _step(ctx: JobContext, number: int) -> None:
    ctx.stage(number, len(STEPS), STEPS[number - 1])


def _tell_table(ctx: JobContext, table: str) -> None:
    ctx.progress(2, len(STEPS), STEPS[1], f"Processing table: {table}")


def _endpoint(connection_id: UUID, user_id: UUID) -> Endpoint:
    # A transaction of its own: our database is not held while another one is read.
    with transaction():
        return endpoint_of(own_connection(connection_id, user_id))


def _summary(inspection: Inspection) -> list[dict[str, Any]]:
    return [
        {
            "name": schema["name"],
            "tables": sum(table["kind"] == TABLE for table in schema["tables"]),
            "views": sum(table["kind"] != TABLE for table in schema["tables"]),
            "columns": sum(len(table["columns"]) for table in schema["tables"]),
        }
        for schema in inspection.schema["schemas"][:MAXIMUM_SUMMARY]
    ]
