"""Writes of the inbox."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from sqlalchemy import delete

from service.accounts.identity import Identity
from service.clock import utcnow
from service.database import fetch_all, transaction
from service.events import (
    NotificationDeleted,
    NotificationEvent,
    NotificationRead,
    NotificationUnread,
    NotificationUpdated,
    publish,
)
from service.notifications.counts import UNREAD, count_unread, is_unread
from service.notifications.models import Notification
from service.notifications.queries import own_notification
from service.notifications.representation import notification_json, row_of


def mark_read(notification_id: UUID, identity: Identity) -> Notification:
    """Mark a notification read; the first time counts. Raises NotificationNotFound or NotAllowed."""

    def read(notification: Notification) -> bool:
        if notification.read_at is not None:
            return False
        notification.read_at = utcnow()
        return True

    return change(notification_id, identity, read, NotificationRead)


def mark_unread(notification_id: UUID, identity: Identity) -> Notification:
    """Mark a notification unread; out of the archive it comes back. Raises NotificationNotFound or NotAllowed."""

    def unread(notification: Notification) -> bool:
        if notification.read_at is None:
            return False
        notification.read_at = notification.archived_at = None
        return True

    return change(notification_id, identity, unread, NotificationUnread)


def archive(notification_id: UUID, identity: Identity) -> Notification:
    """Put a notification away, as one that was read. Raises NotificationNotFound or NotAllowed."""

    def put_away(notification: Notification) -> bool:
        if notification.archived_at is not None:
            return False
        notification.archived_at = utcnow()
        notification.read_at = notification.read_at or notification.archived_at
        notification.snoozed_until = None
        return True

    return change(notification_id, identity, put_away)


def unarchive(notification_id: UUID, identity: Identity) -> Notification:
    """Take a notification back into the inbox. Raises NotificationNotFound or NotAllowed."""

    def take_back(notification: Notification) -> bool:
        if notification.archived_at is None:
            return False
        notification.archived_at = None
        return True

    return change(notification_id, identity, take_back)


def change(
    notification_id: UUID,
    identity: Identity,
    act: Callable[[Notification], bool],
    event: type[NotificationEvent] | None = None,
) -> Notification:
    """Change a notification of the user's by `act`, which says whether it did, and count and tell what follows.

    `event`: what the other devices are told where only that has changed; else they are told the whole notification.
    Raises NotificationNotFound, NotAllowed and what `act` raises.
    """
    with transaction() as session:
        notification = own_notification(notification_id, identity, lock=True)
        was_unread, was_archived = is_unread(notification), notification.archived_at is not None
        if act(notification):
            session.flush()
            inbox = count_unread(identity.user_id, is_unread(notification) - was_unread)
            if event is not None and not was_archived:
                publish(event(identity.user_id, notification_id, inbox))
            else:
                shown = notification_json(row_of(notification))
                publish(NotificationUpdated(identity.user_id, notification_id, inbox, shown))
    return notification


READ_ALL = f"""
WITH unread AS (SELECT id FROM notifications WHERE user_id = %(user_id)s AND {UNREAD} ORDER BY id FOR UPDATE),
changed AS (
    UPDATE notifications AS each SET read_at = %(now)s FROM unread WHERE each.id = unread.id RETURNING each.id)
SELECT count(*) AS changed FROM changed
"""


def mark_all_read(identity: Identity) -> int:
    """Mark read whatever counts as unread, so not what is snoozed; how many there were."""
    with transaction():
        changed = int(fetch_all(READ_ALL, {"user_id": str(identity.user_id), "now": utcnow()})[0]["changed"])
        if changed:
            publish(NotificationRead(identity.user_id, None, count_unread(identity.user_id, -changed)))
    return changed


def delete_notification(notification_id: UUID, identity: Identity) -> None:
    """Delete a notification. Raises NotificationNotFound or NotAllowed."""
    with transaction() as session:
        was_unread = is_unread(own_notification(notification_id, identity, lock=True))
        session.execute(delete(Notification).where(Notification.id == notification_id))
        count = count_unread(identity.user_id, -was_unread)
        publish(NotificationDeleted(identity.user_id, notification_id, count))
