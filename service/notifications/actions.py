"""Writes of the inbox and of preferences."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import delete, select, update

from service.accounts.identity import Identity
from service.accounts.models import User
from service.clock import utcnow
from service.database import transaction
from service.errors import NotAllowed, NotFound
from service.events import NotificationDeleted, NotificationRead, NotificationUnread, publish
from service.notifications.counts import count_unread
from service.notifications.models import Notification, NotificationPreference

# S1, "Default preferences for new users": (type, channel, enabled).
DEFAULT_PREFERENCES = (
    ("job_status", "in_app", True),
    ("job_status", "email", True),
    ("invitations", "in_app", True),
    ("invitations", "email", True),
    ("system", "in_app", True),
    ("system", "email", False),
)


class NotificationNotFound(NotFound):
    """There is no such notification."""

    code = "notification_not_found"


class PreferenceNotFound(NotFound):
    """There is no such preference."""

    code = "preference_not_found"


def write_default_preferences(user: User) -> None:
    """Give a new user the preferences of S1."""
    with transaction() as session:
        session.add_all(
            NotificationPreference(user_id=user.id, notification_type=type_, channel=channel, enabled=enabled)
            for type_, channel, enabled in DEFAULT_PREFERENCES
        )


def mark_read(notification_id: UUID, identity: Identity) -> Notification:
    """Mark a notification read; the first time counts. Raises NotificationNotFound or NotAllowed."""
    with transaction():
        notification = _own(notification_id, identity)
        if notification.read_at is None:
            notification.read_at = utcnow()
            publish(NotificationRead(identity.user_id, notification_id, count_unread(identity.user_id, -1)))
    return notification


def mark_unread(notification_id: UUID, identity: Identity) -> Notification:
    """Mark a notification unread. Raises NotificationNotFound or NotAllowed."""
    with transaction():
        notification = _own(notification_id, identity)
        if notification.read_at is not None:
            notification.read_at = None
            publish(NotificationUnread(identity.user_id, notification_id, count_unread(identity.user_id, 1)))
    return notification


def mark_all_read(identity: Identity) -> int:
    """Mark the whole inbox read; how many were unread."""
    with transaction() as session:
        changed = session.scalars(
            update(Notification)
            .where(Notification.user_id == identity.user_id, Notification.read_at.is_(None))
            .values(read_at=utcnow())
            .returning(Notification.id)
        ).all()
        if changed:
            publish(NotificationRead(identity.user_id, None, count_unread(identity.user_id, -len(changed))))
    return len(changed)


def delete_notification(notification_id: UUID, identity: Identity) -> None:
    """Delete a notification. Raises NotificationNotFound or NotAllowed."""
    with transaction() as session:
        was_unread = _own(notification_id, identity).read_at is None
        session.execute(delete(Notification).where(Notification.id == notification_id))
        count = count_unread(identity.user_id, -1 if was_unread else 0)
        publish(NotificationDeleted(identity.user_id, notification_id, count))


def set_preference(preference_id: UUID, identity: Identity, enabled: bool) -> NotificationPreference:
    """Switch a preference on or off. Raises PreferenceNotFound; other people's are not found either."""
    with transaction() as session:
        preference = session.get(NotificationPreference, preference_id)
        if preference is None or preference.user_id != identity.user_id:
            raise PreferenceNotFound
        preference.enabled = enabled
    return preference


def _own(notification_id: UUID, identity: Identity) -> Notification:
    with transaction() as session:
        query = select(Notification).where(Notification.id == notification_id).with_for_update()
        notification = session.scalar(query)
        if notification is None or notification.organization_id != identity.organization_id:
            raise NotificationNotFound
        if notification.user_id != identity.user_id:
            raise NotAllowed
    return notification
