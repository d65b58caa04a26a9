"""Which folders may be read, and what is in them. Knows nothing of jobs, so that it is tested without any."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

CHUNK_BYTES = 1024 * 1024


def allowed_folder(given: str) -> Path | None:
    """The folder, where it lies in one of CHECKSUM_ROOTS (colon separated; none if not set); None elsewhere."""
    folder = Path(given).resolve()
    roots = [Path(root).resolve() for root in os.environ.get("CHECKSUM_ROOTS", "").split(":") if root]
    return folder if folder.is_dir() and any(folder.is_relative_to(root) for root in roots) else None


def files_below(folder: Path, pattern: str) -> list[Path]:
    """The regular files below a folder whose names match, in order; links are not followed."""
    return sorted(path for path in folder.rglob(pattern) if path.is_file() and not path.is_symlink())


def sha256(path: Path, on_chunk: Callable[[int], None]) -> str:
    """The checksum of a file in hexadecimal; `on_chunk` hears how many bytes were read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            on_chunk(len(chunk))
    return digest.hexdigest()
