"""A library and an item of it as the contract writes them in JSON."""

from __future__ import annotations

from typing import Any

from service.clock import isoformat
from service.libraries.models import Library, MediaItem


def library_json(library: Library) -> dict[str, Any]:
    """The library."""
    return {
        "id": str(library.id),
        "userId": str(library.user_id),
        "name": library.name,
        "path": library.path,
        "enabled": library.enabled,
        "lastScannedAt": isoformat(library.last_scanned_at),
        "createdAt": isoformat(library.created_at),
        "updatedAt": isoformat(library.updated_at),
    }


def item_json(item: MediaItem) -> dict[str, Any]:
    """The item; its path is from the library's folder."""
    return {
        "id": str(item.id),
        "path": item.path,
        "kind": item.kind,
        "title": item.title,
        "year": item.year,
        "season": item.season,
        "episode": item.episode,
        "details": item.details,
        "sizeBytes": item.size_bytes,
        "modifiedAt": isoformat(item.modified_at),
        "firstSeenAt": isoformat(item.first_seen_at),
        "changedAt": isoformat(item.changed_at),
        "goneAt": isoformat(item.gone_at),
    }
