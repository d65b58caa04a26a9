"""Finds the video files below a folder. Follows no symbolic link, skips what is hidden, survives what it cannot read.

A link inside the library leads to what is found anyway, or round in a circle; one that leads out of it is not for us.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from service.libraries.errors import LibraryTooLarge, LibraryUnavailable
from service.libraries.paths import text_of

VIDEO_EXTENSIONS = frozenset(
    {
        ".3gp",
        ".asf",
        ".avi",
        ".divx",
        ".f4v",
        ".flv",
        ".m2ts",
        ".m4v",
        ".mk3d",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".ogm",
        ".ogv",
        ".rm",
        ".rmvb",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
    }
)
# What servers and file systems put beside the files.
SKIPPED_FOLDERS = frozenset({"@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information"})
MAXIMUM_FOLDERS = 200_000
MAXIMUM_DEPTH = 64
# Longer paths do not fit into an index of PostgreSQL.
MAXIMUM_PATH_BYTES = 2_000

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class VideoFile:
    """A video file: its path from the library's folder, as text and with slashes, its size and time of change."""

    path: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of a library: where it is, and its path from the library's folder as text; empty for that itself."""

    location: Path
    path: str

    @property
    def name(self) -> str:
        """The folder's own name."""
        return text_of(self.location.name)


@dataclass
class Findings:
    """The folders of a library, and which of them could not be read, by their paths as text."""

    folders: list[Folder] = field(default_factory=list)
    unreadable: set[str] = field(default_factory=set)


def find_folders(root: Path, checkpoint: Callable[[], None] = lambda: None) -> Findings:
    """Every folder of a library, itself first and each before those below, by name.

    `checkpoint` is called at each and may raise. Raises LibraryUnavailable and LibraryTooLarge.
    """
    findings = Findings()
    waiting = [(Folder(root, ""), 0)]
    while waiting:
        checkpoint()
        folder, depth = waiting.pop()
        try:
            below = _folders_in(folder) if depth < MAXIMUM_DEPTH else []
        except OSError:
            if depth == 0:
                # All of it would seem gone.
                raise LibraryUnavailable from None
            findings.unreadable.add(folder.path)
            below = []
        findings.folders.append(folder)
        if len(findings.folders) + len(waiting) > MAXIMUM_FOLDERS:
            raise LibraryTooLarge(f"The library has more than {MAXIMUM_FOLDERS} folders.")
        waiting.extend((each, depth + 1) for each in reversed(below))
    return findings


def _folders_in(folder: Folder) -> list[Folder]:
    with os.scandir(folder.location) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".")
            and entry.name.lower() not in SKIPPED_FOLDERS
            and entry.is_dir(follow_symlinks=False)
        )
    return [Folder(folder.location / name, _below(folder, name)) for name in names]


def find_videos(folder: Folder) -> Iterator[VideoFile]:
    """The video files that lie in a folder itself, by name; raises OSError when not all of them can be read."""
    with os.scandir(folder.location) as entries:
        found = sorted(
            (entry for entry in entries if _is_video(entry.name)),
            key=lambda entry: entry.name,
        )
    for entry in found:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(status.st_mode):
            continue
        path = _below(folder, entry.name)
        if len(path.encode()) > MAXIMUM_PATH_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        yield VideoFile(path, status.st_size, _moment(status.st_mtime_ns))


def _is_video(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in VIDEO_EXTENSIONS


def _below(folder: Folder, name: str) -> str:
    return f"{folder.path}/{text_of(name)}" if folder.path else text_of(name)


def _moment(nanoseconds: int) -> datetime:
    """The time of a file to the microsecond, as the database keeps it; files may carry times beyond any calendar."""
    try:
        moment = EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return LATEST
    return min(max(moment, EPOCH), LATEST)
