"""`library-scan`: finds the films and episodes of a library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from marshmallow import fields, validate

from service.database import transaction
from service.errors import CarillonError, ValidationFailed
from service.jobs.registry import job_type
from service.libraries.errors import LibraryRefused, LibraryTooLarge
from service.libraries.paths import allowed_folder
from service.libraries.queries import own_library
from service.libraries.scan import scan_library
from service.settings import current_settings
from tasks.context import JobContext


def _check(user_id: UUID, payload: Mapping[str, Any]) -> None:
    library = own_library(payload["library_id"], user_id)
    given = payload["library_path"]
    if given is None:
        return
    folder = allowed_folder(Path(given), current_settings().media_roots)
    if folder is None or str(folder) != library.path:
        raise ValidationFailed(errors={"payload.libraryPath": ["Must be the path of the library."]})


@job_type(
    "library-scan",
    title="Library Scan",
    payload={
        "library_id": fields.UUID(data_key="libraryId", required=True),
        "library_path": fields.String(
            data_key="libraryPath",
            allow_none=True,
            load_default=None,
            validate=validate.Length(1, 4096),
            metadata={"description": "The library's own path, if anything"},
        ),
    },
    retry_limit=3,
    retry_delay=60.0,
    # A library that is gone, or somebody else's by now, raises an error of the API.
    permanent=(CarillonError, LibraryRefused, LibraryTooLarge),
    check=_check,
)
def library_scan(ctx: JobContext, library_id: UUID, library_path: str | None) -> dict[str, Any]:  # noqa: ARG001
    """Finds video files below a library's folder, recognises films and episodes, and notes what is new or gone."""
    # A transaction of its own: the scan writes in many small ones.
    with transaction():
        library = own_library(library_id, ctx.user_id)
        name, path = library.name, library.path

    def on_folder(number: int, total: int, folder: str) -> None:
        ctx.progress(number, total, f"Scanning directory {number} of {total}", folder or name)

    scan = scan_library(library_id, path, current_settings().media_roots, on_folder, ctx.check_cancelled)
    for unreadable in scan.result()["unreadable"]:
        ctx.log(f"Directory cannot be read: {unreadable or name}", "warning")
    return scan.result()
