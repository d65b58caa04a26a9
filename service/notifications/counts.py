"""How many notifications of a user are unread: one number for all devices, with a version that says which is newer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import column, func, select, table, update

from service.database import fetch_one, transaction
from service.notifications.models import Inbox

COUNT = """
INSERT INTO inboxes (user_id, unread, version) VALUES (%(user_id)s, greatest(%(more)s, 0), 1)
ON CONFLICT (user_id) DO UPDATE SET unread = inboxes.unread + %(more)s, version = inboxes.version + 1
RETURNING unread, version
"""


def inbox_json(row: Mapping[str, Any] | None) -> dict[str, int]:
    """`{count, version}` as clients see it; who was never told anything has nothing to read."""
    return {"count": 0, "version": 0} if row is None else {"count": row["unread"], "version": row["version"]}


def count_unread(user_id: UUID, more: int) -> dict[str, int]:
    """Count so many `more` unread notifications, or fewer where it is negative, in the present transaction."""
    return inbox_json(fetch_one(COUNT, {"user_id": str(user_id), "more": more}))


def unread_count(user_id: UUID) -> dict[str, int]:
    """`{count, version}` of a user."""
    with transaction():
        row = fetch_one("SELECT unread, version FROM inboxes WHERE user_id = %(user_id)s", {"user_id": str(user_id)})
    return inbox_json(row)


def forget_unread(partition: str) -> None:
    """Count no more, in the present transaction, what is unread in a partition of `notifications` that is to go."""
    rows = table(partition, column("user_id"), column("read_at"))
    gone = select(rows.c.user_id, func.count().label("unread")).where(rows.c.read_at.is_(None)).group_by(rows.c.user_id)
    lost = gone.subquery()
    with transaction() as session:
        session.execute(
            update(Inbox)
            .where(Inbox.user_id == lost.c.user_id)
            .values(unread=Inbox.unread - lost.c.unread, version=Inbox.version + 1)
            .execution_options(synchronize_session=False)
        )
