"""`checksum-files`: SHA-256 of the files in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from marshmallow import fields, validate

from carillon_checksums.folders import allowed_folder, files_below, sha256
from service.errors import ValidationFailed
from service.jobs.errors import PermanentError
from service.jobs.registry import job_type
from tasks.context import JobContext

# What the artifact is called: `sha256sum --check SHA256SUMS` reads it.
LIST_NAME = "SHA256SUMS"


def _check(_user_id: UUID, payload: Mapping[str, Any]) -> None:
    """Asked when a job is submitted: what is refused here is answered with 422 and the field."""
    if allowed_folder(payload["folder"]) is None:
        raise ValidationFailed(errors={"payload.folder": ["Must be a folder below one of CHECKSUM_ROOTS."]})


@job_type(
    "checksum-files",
    title="Checksums",
    payload={
        "folder": fields.String(required=True, validate=validate.Length(1, 4096)),
        "pattern": fields.String(
            load_default="*",
            validate=validate.Length(1, 200),
            metadata={"description": "Which files, as the shell has it: *.iso"},
        ),
    },
    stages=("Listing files", "Reading files"),
    retry_limit=2,
    retry_delay=30.0,
    check=_check,
)
def checksum_files(ctx: JobContext, folder: str, pattern: str) -> dict[str, Any]:
    """Computes the SHA-256 of each file below a folder, and leaves them as the file SHA256SUMS."""
    root = allowed_folder(folder)
    if root is None:
        # It was there when the job was submitted; another try will not bring it back.
        raise PermanentError("The folder is gone, or may not be read any more.", code="folder_refused")
    ctx.stage(0, 1, "Listing files")
    paths = files_below(root, pattern)
    ctx.stage(0, 1, "Reading files")
    checksums, unreadable = _read(ctx, root, paths)
    ctx.artifact(LIST_NAME, "".join(f"{checksum}  {name}\n" for name, checksum in checksums.items()))
    # Also where there was nothing to read.
    ctx.progress(1, 1, "Reading files")
    return {"files": len(checksums), "unreadable": unreadable}


def _read(ctx: JobContext, root: Path, paths: list[Path]) -> tuple[dict[str, str], list[str]]:
    """Checksums by name, and the names of files that cannot be read."""
    checksums: dict[str, str] = {}
    unreadable: list[str] = []
    # Told by bytes: one film takes longer than a thousand pictures.
    total = sum(path.stat().st_size for path in paths)
    done = 0

    for path in paths:
        name = str(path.relative_to(root))

        def on_chunk(size: int, name: str = name) -> None:
            nonlocal done
            done += size
            # Also where a cancel is noticed: between two chunks.
            ctx.progress(done, total, "Reading files", name)

        try:
            checksums[name] = sha256(path, on_chunk)
        except OSError as error:
            unreadable.append(name)
            ctx.log(f"{name} cannot be read: {error.strerror}", "warning")
    return checksums, unreadable
