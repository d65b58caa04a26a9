"""How many notifications of a user are unread: one number for all devices, with a version that says which is newer.

Unread is what was neither read nor archived and is not snoozed (`is_unread`, and `UNREAD` in SQL). Whatever changes
that counts it in the same transaction. Deadlocks are kept away by an order: notifications first, by their ids where
there are several, then inboxes by their users' ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from service.clock import utcnow
from service.database import fetch_all, fetch_one, transaction
from service.notifications.models import Notification

UNREAD = "read_at IS NULL AND archived_at IS NULL AND snoozed_until IS NULL"

COUNT = """
INSERT INTO inboxes (user_id, unread, version) VALUES (%(user_id)s, greatest(%(more)s, 0), 1)
ON CONFLICT (user_id) DO UPDATE SET unread = inboxes.unread + %(more)s, version = inboxes.version + 1
RETURNING unread, version
"""

# The same for the users of `changes`, rows of (user_id, more), who have an inbox already.
COUNT_EACH = """
WITH counting AS (SELECT user_id, sum(more) AS more FROM changes GROUP BY user_id),
locked AS (
    SELECT inboxes.user_id, counting.more FROM inboxes JOIN counting USING (user_id)
    ORDER BY inboxes.user_id FOR UPDATE OF inboxes)
UPDATE inboxes SET unread = inboxes.unread + locked.more, version = inboxes.version + 1
FROM locked WHERE inboxes.user_id = locked.user_id
RETURNING inboxes.user_id, inboxes.unread, inboxes.version
"""

LOCK = """
INSERT INTO inboxes (user_id, unread, version)
SELECT id::uuid, 0, 0 FROM unnest(string_to_array(%(user_ids)s, ',')) AS id ORDER BY 1
ON CONFLICT (user_id) DO UPDATE SET version = inboxes.version
"""


def is_unread(notification: Notification) -> bool:
    """Whether a notification counts."""
    return notification.read_at is None and notification.archived_at is None and notification.snoozed_until is None


def inbox_json(row: Mapping[str, Any] | None) -> dict[str, int]:
    """`{count, version}` as clients see it; who was never told anything has nothing to read."""
    return {"count": 0, "version": 0} if row is None else {"count": row["unread"], "version": row["version"]}


def count_unread(user_id: UUID, more: int) -> dict[str, int]:
    """Count so many `more` unread notifications, or fewer where it is negative, in the present transaction."""
    return inbox_json(fetch_one(COUNT, {"user_id": str(user_id), "more": more}))


def lock_inboxes(user_ids: Iterable[UUID]) -> None:
    """Lock the counts of several users, whom the present transaction will count for one after the other."""
    fetch_all(LOCK, {"user_ids": ",".join(str(each) for each in user_ids)})


def unread_count(user_id: UUID) -> dict[str, int]:
    """`{count, version}` of a user."""
    with transaction():
        row = fetch_one("SELECT unread, version FROM inboxes WHERE user_id = %(user_id)s", {"user_id": str(user_id)})
    return inbox_json(row)


FORGOTTEN_AT_ONCE = 1_000


def forget_unread(partition: str) -> int:
    """Mark some of what is unread in a partition of `notifications` that is to go as read; how many, 0 at the end."""
    with transaction():
        rows = fetch_all(
            f"""
            WITH unread AS (
                SELECT id FROM {partition} WHERE {UNREAD} ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED),
            changes AS (
                UPDATE {partition} AS each SET read_at = %(now)s FROM unread WHERE each.id = unread.id
                RETURNING each.user_id, -1 AS more),
            counts AS ({COUNT_EACH})
            SELECT count(*) AS forgotten FROM changes
            """,
            {"limit": FORGOTTEN_AT_ONCE, "now": utcnow()},
        )
    return int(rows[0]["forgotten"])


def has_unread(partition: str) -> bool:
    """Whether something in a partition of `notifications` still counts."""
    with transaction():
        rows = fetch_all(f"SELECT EXISTS (SELECT FROM {partition} WHERE {UNREAD}) AS has", {})
    return bool(rows[0]["has"])
