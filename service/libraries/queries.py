"""Reads of libraries."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Select, or_, select

from service.accounts.identity import Identity
from service.accounts.models import User
from service.database import db
from service.errors import NotAllowed
from service.libraries.errors import LibraryNotFound
from service.libraries.models import Library, MediaItem


def visible_library(library_id: UUID, identity: Identity) -> Library:
    """A library that somebody may see; raises LibraryNotFound across tenants, NotAllowed within one."""
    library = _of_organization(library_id, identity.organization_id)
    if library.user_id != identity.user_id and not identity.is_operator:
        raise NotAllowed
    return library


def own_library(library_id: UUID, user_id: UUID) -> Library:
    """A library that a user may change and scan: his own; raises as `visible_library` does."""
    organization_id = db.session.scalar(select(User.organization_id).where(User.id == user_id))
    library = _of_organization(library_id, organization_id)
    if library.user_id != user_id:
        raise NotAllowed
    return library


def _of_organization(library_id: UUID, organization_id: UUID | None) -> Library:
    library = db.session.get(Library, library_id)
    if library is None or library.organization_id != organization_id:
        raise LibraryNotFound
    return library


def visible_libraries(identity: Identity) -> Select[Any]:
    """The user's libraries, or the tenant's for an operator, by name."""
    query = select(Library).order_by(Library.name, Library.id)
    if identity.is_operator:
        return query.where(Library.organization_id == identity.organization_id)
    return query.where(Library.user_id == identity.user_id)


def items(library_id: UUID, *, kind: str | None = None, gone: bool | None = None, q: str | None = None) -> Select[Any]:
    """The items of a library by title, season and episode; `q` is part of the title or of the path."""
    query = select(MediaItem).where(MediaItem.library_id == library_id)
    if kind is not None:
        query = query.where(MediaItem.kind == kind)
    if gone is not None:
        query = query.where(MediaItem.gone_at.is_not(None) if gone else MediaItem.gone_at.is_(None))
    if q is not None:
        query = query.where(
            or_(MediaItem.title.icontains(q, autoescape=True), MediaItem.path.icontains(q, autoescape=True))
        )
    return query.order_by(MediaItem.title, MediaItem.season, MediaItem.episode, MediaItem.path)
