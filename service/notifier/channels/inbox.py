"""The inbox: persistent notifications, for users who want them for this type of event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.notifier.channels.base import FollowUp

# The id is made of event and recipient: planning the same event again writes nothing.
PLAN = """
INSERT INTO notifications (id, organization_id, user_id, event_id, type, category, title, message, data, created_at)
SELECT derived_id(event.id, event.user_id::text), event.organization_id, event.user_id, event.id,
    event.notification, event.category, event.title, event.message, event.data, event.at
FROM event JOIN notification_preferences AS preference
    ON preference.user_id = event.user_id AND preference.notification_type = event.preference
    AND preference.channel = 'in_app' AND preference.enabled
WHERE event.tells_inbox
ON CONFLICT (id) DO NOTHING
RETURNING id, user_id, type, category, title, message, data, created_at
"""


def after_commit(rows: Sequence[Mapping[str, Any]]) -> FollowUp:
    """The entries that show the new notifications at once."""
    entries: list[tuple[str, dict[str, Any]]] = [
        (
            row["user_id"],
            {
                "event": "NotificationCreated",
                "userId": row["user_id"],
                "notification": {
                    "id": row["id"],
                    "type": row["type"],
                    "category": row["category"],
                    "title": row["title"],
                    "message": row["message"],
                    "data": row["data"],
                    "read": False,
                    "readAt": None,
                    "createdAt": row["created_at"],
                },
            },
        )
        for row in rows
    ]
    return FollowUp(entries)
