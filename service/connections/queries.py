"""Reads of registered databases."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from cryptography.fernet import InvalidToken
from sqlalchemy import Select, select

from service.accounts.identity import Identity
from service.accounts.models import User
from service.connections.errors import ConnectionNotFound, ConnectionUnreadable, SchemaNotFound
from service.connections.models import Connection, ConnectionSchema
from service.connections.urls import Endpoint, parse_url
from service.crypto import decrypt
from service.database import db
from service.errors import NotAllowed


def visible_connection(connection_id: UUID, identity: Identity) -> Connection:
    """A connection that somebody may see; raises ConnectionNotFound across tenants, NotAllowed within one."""
    connection = _of_organization(connection_id, identity.organization_id)
    if connection.user_id != identity.user_id and not identity.is_operator:
        raise NotAllowed
    return connection


def own_connection(connection_id: UUID, user_id: UUID) -> Connection:
    """A connection that a user may change and use: his own; raises as `visible_connection` does."""
    organization_id = db.session.scalar(select(User.organization_id).where(User.id == user_id))
    connection = _of_organization(connection_id, organization_id)
    if connection.user_id != user_id:
        raise NotAllowed
    return connection


def _of_organization(connection_id: UUID, organization_id: UUID | None) -> Connection:
    connection = db.session.get(Connection, connection_id)
    if connection is None or connection.organization_id != organization_id:
        raise ConnectionNotFound
    return connection


def visible_connections(identity: Identity) -> Select[Any]:
    """The user's connections, or the tenant's for an operator, by name."""
    query = select(Connection).order_by(Connection.name, Connection.id)
    if identity.is_operator:
        return query.where(Connection.organization_id == identity.organization_id)
    return query.where(Connection.user_id == identity.user_id)


def endpoint_of(connection: Connection) -> Endpoint:
    """Where a connection leads, with the password; raises ConnectionUnreadable when its key is gone."""
    try:
        return parse_url(decrypt(connection.url))
    except (InvalidToken, ValueError):
        raise ConnectionUnreadable from None


def cached_schema(connection_id: UUID) -> ConnectionSchema:
    """The schema that the last rebuild saw; raises SchemaNotFound before the first."""
    schema = db.session.get(ConnectionSchema, connection_id)
    if schema is None:
        raise SchemaNotFound
    return schema
