"""Reads of the inbox and of preferences."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select

from service.accounts.identity import Identity
from service.clock import isoformat
from service.database import db
from service.notifications.counts import unread_count
from service.notifications.models import Notification, NotificationPreference
from service.pagination import LongList, Page


def notification_json(notification: Notification) -> dict[str, Any]:
    """An entry of the inbox."""
    return {
        "id": str(notification.id),
        "type": notification.type,
        "category": notification.category,
        "title": notification.title,
        "message": notification.message,
        "data": notification.data,
        "read": notification.read_at is not None,
        "readAt": isoformat(notification.read_at),
        "createdAt": isoformat(notification.created_at),
    }


def inbox(identity: Identity, page: Page, *, unread: bool | None, type_: str | None) -> dict[str, Any]:
    """A page of the user's inbox, newest first, with the unread count of the whole."""
    query = select(Notification).where(Notification.user_id == identity.user_id)
    if unread is not None:
        query = query.where(Notification.read_at.is_(None) if unread else Notification.read_at.is_not(None))
    if type_ is not None:
        query = query.where(Notification.type == type_)
    answer = LongList(query, Notification.id).read(page, notification_json)
    unread_ones = unread_count(identity.user_id)
    return {**answer, "unreadCount": unread_ones["count"], "unreadVersion": unread_ones["version"]}


def preference_json(preference: NotificationPreference) -> dict[str, Any]:
    """A preference."""
    return {
        "id": str(preference.id),
        "notificationType": preference.notification_type,
        "channel": preference.channel,
        "enabled": preference.enabled,
    }


def preferences(user_id: UUID) -> list[dict[str, Any]]:
    """All preferences of a user, in a stable order."""
    query = select(NotificationPreference).where(NotificationPreference.user_id == user_id)
    order = (NotificationPreference.notification_type, NotificationPreference.channel)
    return [preference_json(each) for each in db.session.scalars(query.order_by(*order))]
