"""A notification as everybody sees it: over REST, on sockets and in streams."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from service.clock import isoformat
from service.notifications.models import Notification

# What `notification_json` is made of.
COLUMNS = (
    "id",
    "user_id",
    "type",
    "category",
    "title",
    "message",
    "data",
    "created_at",
    "send_id",
    "actions",
    "resolution",
    "read_at",
    "archived_at",
    "snoozed_until",
    "expires_at",
)


def notification_json(row: Mapping[Any, Any]) -> dict[str, Any]:
    """An entry of the inbox, of its `COLUMNS`; times may be moments, or texts as PostgreSQL's JSON has them."""
    return {
        "id": str(row["id"]),
        "type": row["type"],
        "category": row["category"],
        "title": row["title"],
        "message": row["message"],
        "data": row["data"],
        "actions": row["actions"],
        "resolution": row["resolution"],
        "read": row["read_at"] is not None,
        "readAt": _time(row["read_at"]),
        "archived": row["archived_at"] is not None,
        "archivedAt": _time(row["archived_at"]),
        "snoozedUntil": _time(row["snoozed_until"]),
        "expiresAt": _time(row["expires_at"]),
        "sendId": None if row["send_id"] is None else str(row["send_id"]),
        "createdAt": _time(row["created_at"]),
    }


def _time(value: datetime | str | None) -> str | None:
    return isoformat(datetime.fromisoformat(value) if isinstance(value, str) else value)


def row_of(notification: Notification) -> dict[str, Any]:
    """The columns of a notification."""
    return {name: getattr(notification, name) for name in COLUMNS}


def arrival(row: Mapping[Any, Any], inbox: Mapping[str, int]) -> tuple[str, dict[str, Any]]:
    """A new notification for the event log: (user id, entry); `inbox` is `{count, version}` with it."""
    user_id = str(row["user_id"])
    notification = notification_json(row)
    return user_id, {
        "event": "NotificationCreated",
        "userId": user_id,
        "inbox": dict(inbox),
        "notification": notification,
    }
