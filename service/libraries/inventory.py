"""What a scan writes about the files of a library: many at a time, a statement for each kind of news."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from service.clock import utcnow
from service.database import fetch_all, fetch_one, transaction
from service.ids import new_id
from service.libraries.errors import LibraryNotFound
from service.libraries.models import MediaItem
from service.libraries.recogniser import Recognition
from service.libraries.scanner import VideoFile

BATCH = 500
READ_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What an earlier scan wrote about a file."""

    size_bytes: int
    modified_at: datetime
    kind: str
    is_gone: bool


def known_files(library_id: UUID) -> dict[str, KnownFile]:
    """The files that earlier scans found, by path."""
    query = select(
        MediaItem.path, MediaItem.size_bytes, MediaItem.modified_at, MediaItem.kind, MediaItem.gone_at.is_not(None)
    ).where(MediaItem.library_id == library_id)
    with transaction() as session:
        rows = session.execute(query.execution_options(yield_per=READ_AT_ONCE))
        return {path: KnownFile(size, modified, kind, gone) for path, size, modified, kind, gone in rows}


# A file that is new, has changed, or has come back as another.
_WRITE = """
INSERT INTO media_items (id, library_id, path, kind, title, year, season, episode, details, size_bytes, modified_at,
    first_seen_at, changed_at)
SELECT id, %(library_id)s, path, kind, title, year, season, episode, details, size_bytes, modified_at,
    %(now)s, %(now)s
FROM jsonb_to_recordset(%(items)s) AS item(id uuid, path text, kind text, title text, year int, season int,
    episode int, details jsonb, size_bytes bigint, modified_at timestamptz)
ON CONFLICT (library_id, path) DO UPDATE SET kind = excluded.kind, title = excluded.title, year = excluded.year,
    season = excluded.season, episode = excluded.episode, details = excluded.details,
    size_bytes = excluded.size_bytes, modified_at = excluded.modified_at, changed_at = excluded.changed_at,
    gone_at = NULL
"""

_MARK = """
UPDATE media_items SET gone_at = %(gone_at)s
WHERE library_id = %(library_id)s AND path = ANY(%(paths)s) AND (gone_at IS NULL) = %(is_there)s
"""


def write_files(library_id: UUID, files: Sequence[tuple[VideoFile, Recognition]]) -> None:
    """Remember files that are new or have changed; raises LibraryNotFound when the library was removed."""
    for batch in _batches(files):
        items = [
            {
                "id": str(new_id()),
                "path": file.path,
                "kind": found.kind,
                "title": found.title,
                "year": found.year,
                "season": found.season,
                "episode": found.episode,
                "details": dict(found.details),
                "size_bytes": file.size_bytes,
                "modified_at": file.modified_at.isoformat(),
            }
            for file, found in batch
        ]
        with transaction():
            _hold(library_id)
            parameters = {"library_id": str(library_id), "now": utcnow(), "items": json.dumps(items)}
            fetch_all(_WRITE, parameters)


def mark_returned(library_id: UUID, paths: Sequence[str]) -> None:
    """Files that were gone are there again, unchanged; raises LibraryNotFound."""
    _mark(library_id, paths, None)


def mark_gone(library_id: UUID, paths: Sequence[str]) -> None:
    """Files that were there are gone; raises LibraryNotFound."""
    _mark(library_id, paths, utcnow())


def _mark(library_id: UUID, paths: Sequence[str], gone_at: datetime | None) -> None:
    for batch in _batches(paths):
        with transaction():
            _hold(library_id)
            fetch_all(
                _MARK,
                {
                    "library_id": str(library_id),
                    "paths": list(batch),
                    "gone_at": gone_at,
                    "is_there": gone_at is not None,
                },
            )


def note_scan(library_id: UUID) -> None:
    """A scan has come to its end; raises LibraryNotFound."""
    with transaction():
        _hold(library_id)
        # The library itself has not been changed by anybody: updated_at stays.
        fetch_all(
            "UPDATE libraries SET last_scanned_at = %(now)s WHERE id = %(id)s",
            {"now": utcnow(), "id": str(library_id)},
        )


def _hold(library_id: UUID) -> None:
    """Keep the library from being removed within this transaction."""
    if fetch_one("SELECT 1 FROM libraries WHERE id = %(id)s FOR KEY SHARE", {"id": str(library_id)}) is None:
        raise LibraryNotFound("The library was removed.")


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
