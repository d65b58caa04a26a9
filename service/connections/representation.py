"""A connection and its schema as the contract writes them in JSON: never the URL, never the password."""

from __future__ import annotations

from typing import Any

from service.clock import isoformat
from service.connections.errors import ConnectionUnreadable
from service.connections.models import Connection, ConnectionSchema
from service.connections.probe import Probe
from service.connections.queries import endpoint_of


def connection_json(connection: Connection) -> dict[str, Any]:
    """The connection; its place is all null when its URL cannot be decrypted any more."""
    try:
        endpoint = endpoint_of(connection)
    except ConnectionUnreadable:
        endpoint = None
    return {
        "id": str(connection.id),
        "userId": str(connection.user_id),
        "name": connection.name,
        "engine": endpoint and endpoint.engine,
        "host": endpoint and endpoint.host,
        "port": endpoint and endpoint.port,
        "database": endpoint and endpoint.database,
        "username": endpoint and endpoint.username,
        "createdAt": isoformat(connection.created_at),
        "updatedAt": isoformat(connection.updated_at),
        "schemaRebuiltAt": isoformat(connection.schema_rebuilt_at),
    }


def probe_json(result: Probe) -> dict[str, Any]:
    """`{ok:true, latencyMs, serverVersion}` or `{ok:false, error}`."""
    if result.failure is not None:
        return {"ok": False, "error": {"code": result.failure.code, "message": result.failure.message}}
    return {"ok": True, "latencyMs": result.latency_ms, "serverVersion": result.server_version}


def schema_json(cached: ConnectionSchema) -> dict[str, Any]:
    """What the last rebuild saw, and when."""
    return {
        "connectionId": str(cached.connection_id),
        "jobId": str(cached.job_id),
        "fingerprint": cached.fingerprint,
        "rebuiltAt": isoformat(cached.rebuilt_at),
        "schema": cached.schema,
    }
