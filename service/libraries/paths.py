"""Where a library may lie, and how the names of its files are written down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class PathRefused(ValueError):
    """A path that cannot be a library's; the message is for whoever gave it."""


def library_folder(text: str, roots: Sequence[Path]) -> Path:
    """The folder of a library with symbolic links resolved; raises PathRefused."""
    given = Path(text)
    if not given.is_absolute():
        raise PathRefused("Must be an absolute path.")
    path = allowed_folder(given, roots)
    # The same words whether the folder exists or not: nobody learns what lies outside.
    if path is None:
        raise PathRefused("Must lie in a folder that this installation allows for libraries.")
    try:
        is_folder = path.is_dir()
    except OSError:
        is_folder = False
    if not is_folder:
        raise PathRefused("There is no such folder.")
    if text_of(path) != str(path):
        raise PathRefused("The folder's name is not valid UTF-8.")
    return path


def allowed_folder(path: Path, roots: Sequence[Path]) -> Path | None:
    """The path with symbolic links resolved, None where that leads out of all roots."""
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError, ValueError):
        return None
    return resolved if any(resolved.is_relative_to(root.resolve()) for root in roots) else None


def text_of(name: str | Path) -> str:
    r"""A file's name as text that a database takes: bytes that are not UTF-8 become `\xff`.

    Python hides such bytes in lone surrogates, which no database stores.
    """
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
