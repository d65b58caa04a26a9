"""What people do to libraries."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.accounts.identity import Identity
from service.audit.actions import record
from service.database import transaction
from service.errors import ValidationFailed
from service.libraries.errors import LibraryNameTaken
from service.libraries.models import Library
from service.libraries.paths import PathRefused, library_folder
from service.libraries.queries import own_library
from service.settings import current_settings


def create_library(identity: Identity, *, name: str, path: str, enabled: bool = True) -> Library:
    """Register a folder of films and series; raises ValidationFailed and LibraryNameTaken."""
    folder = _checked(path)
    with transaction() as session:
        library = Library(
            organization_id=identity.organization_id,
            user_id=identity.user_id,
            name=name,
            path=folder,
            enabled=enabled,
        )
        session.add(library)
        _flush(session)
        record("library.create", "library", library.id, {"name": name, "path": folder})
    return library


def update_library(
    library_id: UUID,
    identity: Identity,
    *,
    name: str | None = None,
    path: str | None = None,
    enabled: bool | None = None,
) -> Library:
    """Change what is given; items of another path are sorted out by the next scan. Raises as `create_library`."""
    with transaction() as session:
        library = own_library(library_id, identity.user_id)
        if name is not None:
            library.name = name
        if path is not None:
            library.path = _checked(path)
        if enabled is not None:
            library.enabled = enabled
        _flush(session)
        record("library.update", "library", library_id, {"name": library.name, "path": library.path})
    return library


def delete_library(library_id: UUID, identity: Identity) -> None:
    """Forget a library and its items; the files stay."""
    with transaction() as session:
        library = own_library(library_id, identity.user_id)
        session.delete(library)
        record("library.delete", "library", library_id, {"name": library.name, "path": library.path})


def _checked(path: str) -> str:
    try:
        return str(library_folder(path, current_settings().media_roots))
    except PathRefused as error:
        raise ValidationFailed(errors={"path": [str(error)]}) from None


def _flush(session: Session) -> None:
    try:
        session.flush()
    except IntegrityError as error:
        if "uq_libraries_user_id_name" not in str(error.orig):
            raise
        raise LibraryNameTaken from None
