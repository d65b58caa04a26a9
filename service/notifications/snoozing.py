"""Notifications that are put off: they do not count meanwhile, and come back by themselves."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

from service.accounts.identity import Identity
from service.clock import isoformat, utcnow
from service.database import fetch_all, transaction
from service.errors import ValidationFailed
from service.events import NotificationReturned, publish
from service.notifications.actions import change
from service.notifications.counts import COUNT_EACH, inbox_json
from service.notifications.models import Notification
from service.notifications.representation import COLUMNS, notification_json
from service.settings import current_settings

BATCH = 500
LONGEST = timedelta(days=365)


def snooze(notification_id: UUID, identity: Identity, until: datetime) -> Notification:
    """Put a notification off until then, also one that was archived.

    Raises NotificationNotFound, NotAllowed, or ValidationFailed for a moment that has passed, is too far away, or lies
    beyond the time that notifications are kept for.
    """

    def put_off(notification: Notification) -> bool:
        last = min(utcnow() + LONGEST, _kept_until(notification.created_at))
        if not utcnow() < until <= last:
            message = f"Must be in the future, and {isoformat(last)} at the latest."
            raise ValidationFailed(errors={"until": [message]})
        notification.snoozed_until = until
        notification.archived_at = None
        return True

    return change(notification_id, identity, put_off)


def _kept_until(created_at: datetime) -> datetime:
    """When the month that a notification was made in is deleted."""
    months = created_at.year * 12 + created_at.month
    next_month = datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)
    return next_month + timedelta(days=current_settings().notification_retention_days)


def unsnooze(notification_id: UUID, identity: Identity) -> Notification:
    """Have a snoozed notification back at once. Raises NotificationNotFound or NotAllowed."""

    def have_back(notification: Notification) -> bool:
        if notification.snoozed_until is None:
            return False
        notification.snoozed_until = None
        return True

    return change(notification_id, identity, have_back)


RETURN = f"""
WITH due AS (
    SELECT id FROM notifications WHERE snoozed_until <= %(now)s
    ORDER BY snoozed_until LIMIT %(limit)s FOR UPDATE SKIP LOCKED),
back AS (
    UPDATE notifications AS each SET snoozed_until = NULL FROM due WHERE each.id = due.id
    RETURNING {", ".join(f"each.{name}" for name in COLUMNS)}),
changes AS (SELECT user_id, (read_at IS NULL)::int AS more FROM back),
counts AS ({COUNT_EACH})
SELECT row_to_json(back)::text AS notification, counts.unread, counts.version
FROM back LEFT JOIN counts USING (user_id) ORDER BY back.id
"""


def return_snoozed() -> int:
    """Have up to `BATCH` notifications back whose time has come: count them and tell their users again; how many."""
    with transaction():
        rows = fetch_all(RETURN, {"now": utcnow(), "limit": BATCH})
        events = []
        for row in rows:
            notification = json.loads(row["notification"])
            inbox = inbox_json(row if row["version"] is not None else None)
            user_id, notification_id = UUID(notification["user_id"]), UUID(notification["id"])
            events.append(NotificationReturned(user_id, notification_id, inbox, notification_json(notification)))
        publish(*events)
    return len(rows)
