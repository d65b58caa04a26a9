"""What people do to registered databases, and what a rebuild leaves behind."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.accounts.identity import Identity
from service.audit.actions import record
from service.clock import utcnow
from service.connections.errors import (
    AddressRefused,
    ConnectionNameTaken,
    ConnectionNotFound,
    ConnectionUnreadable,
)
from service.connections.inspector import Inspection
from service.connections.models import Connection, ConnectionSchema
from service.connections.policy import check_place
from service.connections.queries import endpoint_of, own_connection
from service.connections.urls import Endpoint, InvalidUrl, parse_url
from service.crypto import encrypt
from service.database import transaction
from service.errors import ValidationFailed
from service.settings import current_settings


def create_connection(identity: Identity, *, name: str, url: str) -> Connection:
    """Register a database; raises ValidationFailed and ConnectionNameTaken."""
    endpoint = _checked(url)
    with transaction() as session:
        connection = Connection(
            organization_id=identity.organization_id, user_id=identity.user_id, name=name, url=encrypt(url)
        )
        session.add(connection)
        _flush(session)
        record("connection.create", "connection", connection.id, _audited(name, endpoint))
    return connection


def update_connection(
    connection_id: UUID, identity: Identity, *, name: str | None = None, url: str | None = None
) -> Connection:
    """Change name or URL; the cached schema of another database is dropped. Raises as `create_connection` does."""
    endpoint = None if url is None else _checked(url)
    with transaction() as session:
        connection = own_connection(connection_id, identity.user_id)
        if name is not None:
            connection.name = name
        if url is not None and endpoint is not None:
            if _place(connection) != endpoint.place:
                session.execute(delete(ConnectionSchema).where(ConnectionSchema.connection_id == connection_id))
            connection.url = encrypt(url)
        _flush(session)
        record("connection.update", "connection", connection_id, _audited(connection.name, endpoint))
    return connection


def delete_connection(connection_id: UUID, identity: Identity) -> None:
    """Forget a database and its cached schema."""
    with transaction() as session:
        connection = own_connection(connection_id, identity.user_id)
        session.delete(connection)
        record("connection.delete", "connection", connection_id, {"name": connection.name})


def save_schema(connection_id: UUID, job_id: UUID, inspection: Inspection, *, force: bool = False) -> bool:
    """Keep what a rebuild saw; whether it differs from what was kept before.

    An unchanged schema is written anew only with `force`, otherwise just the time of the rebuild. Raises
    ConnectionNotFound when the connection was deleted meanwhile.
    """
    with transaction() as session:
        known = session.scalar(
            select(Connection.id).where(Connection.id == connection_id).with_for_update(read=True, key_share=True)
        )
        if known is None:
            raise ConnectionNotFound
        before = session.scalar(
            select(ConnectionSchema.fingerprint).where(ConnectionSchema.connection_id == connection_id)
        )
        changed = before != inspection.fingerprint
        seen: dict[str, Any] = {"job_id": job_id, "rebuilt_at": utcnow(), "fingerprint": inspection.fingerprint}
        if changed or force:
            seen["schema"] = inspection.schema
            statement = insert(ConnectionSchema).values(connection_id=connection_id, **seen)
            session.execute(statement.on_conflict_do_update(index_elements=[ConnectionSchema.connection_id], set_=seen))
        else:
            session.execute(
                update(ConnectionSchema).where(ConnectionSchema.connection_id == connection_id).values(**seen)
            )
    return changed


def _checked(url: str) -> Endpoint:
    try:
        endpoint = parse_url(url)
        check_place(endpoint, current_settings())
    except (InvalidUrl, AddressRefused) as error:
        raise ValidationFailed(errors={"url": [str(error)]}) from None
    return endpoint


def _place(connection: Connection) -> object:
    try:
        return endpoint_of(connection).place
    except ConnectionUnreadable:
        return None


def _flush(session: Session) -> None:
    try:
        session.flush()
    except IntegrityError as error:
        if "uq_connections_user_id_name" not in str(error.orig):
            raise
        raise ConnectionNameTaken from None


def _audited(name: str, endpoint: Endpoint | None) -> dict[str, object]:
    """What the audit log may know: where the database is, not who logs in with what."""
    if endpoint is None:
        return {"name": name}
    return {"name": name, "engine": endpoint.engine, "host": endpoint.host, "database": endpoint.database}
