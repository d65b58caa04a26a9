"""Notifications whose time is over: they are not listed any more at once, and deleted a little later."""

from __future__ import annotations

from uuid import UUID

from service.clock import utcnow
from service.database import fetch_all, transaction
from service.events import NotificationDeleted, publish
from service.notifications.counts import COUNT_EACH, UNREAD, inbox_json

BATCH = 500

EXPIRE = f"""
WITH due AS (
    SELECT id FROM notifications WHERE expires_at <= %(now)s
    ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED),
gone AS (
    DELETE FROM notifications AS each USING due WHERE each.id = due.id
    RETURNING each.id, each.user_id, ({UNREAD}) AS was_unread),
changes AS (SELECT user_id, -was_unread::int AS more FROM gone),
counts AS ({COUNT_EACH})
SELECT gone.id::text, gone.user_id::text, counts.unread, counts.version
FROM gone LEFT JOIN counts USING (user_id) ORDER BY gone.id
"""


def delete_expired() -> int:
    """Delete up to `BATCH` notifications that have expired, and tell their users' devices; how many."""
    with transaction():
        rows = fetch_all(EXPIRE, {"now": utcnow(), "limit": BATCH})
        publish(
            *(
                NotificationDeleted(
                    UUID(row["user_id"]), UUID(row["id"]), inbox_json(row if row["version"] is not None else None)
                )
                for row in rows
            )
        )
    return len(rows)
