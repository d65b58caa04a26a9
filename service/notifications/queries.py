"""Reads of the inbox."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, or_, select

from service.accounts.identity import Identity
from service.clock import utcnow
from service.database import db
from service.errors import NotAllowed, NotFound
from service.ids import first_id_at
from service.notifications.counts import unread_count
from service.notifications.models import Notification
from service.notifications.representation import COLUMNS, notification_json
from service.pagination import LongList, Page


class NotificationNotFound(NotFound):
    """There is no such notification."""

    code = "notification_not_found"


@dataclass(frozen=True)
class InboxFilter:
    """Which notifications are wanted; None: either way. Times are those of their creation."""

    unread: bool | None = None
    type: str | None = None
    category: str | None = None
    archived: bool = False
    snoozed: bool = False
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        """The filter over `notifications`."""
        yield Notification.archived_at.is_not(None) if self.archived else Notification.archived_at.is_(None)
        yield Notification.snoozed_until.is_not(None) if self.snoozed else Notification.snoozed_until.is_(None)
        yield has_not_expired()
        if self.unread is not None:
            yield Notification.read_at.is_(None) if self.unread else Notification.read_at.is_not(None)
        if self.type is not None:
            yield Notification.type == self.type
        if self.category is not None:
            yield Notification.category == self.category
        if self.since is not None:
            yield Notification.id >= first_id_at(self.since)
        if self.until is not None:
            yield Notification.id < first_id_at(self.until)


def has_not_expired() -> ColumnElement[bool]:
    """The notification is still to be seen: what has expired is so no more, though it goes a little later."""
    return or_(Notification.expires_at.is_(None), Notification.expires_at > utcnow())


def own_notification(notification_id: UUID, identity: Identity, *, lock: bool = False) -> Notification:
    """A notification of the user's, for the present transaction alone if `lock`.

    Raises NotificationNotFound, also for other tenants', or NotAllowed.
    """
    query = select(Notification).where(Notification.id == notification_id, has_not_expired())
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    notification = db.session.scalar(query)
    if notification is None or notification.organization_id != identity.organization_id:
        raise NotificationNotFound
    if notification.user_id != identity.user_id:
        raise NotAllowed
    return notification


def inbox(identity: Identity, page: Page, wanted: InboxFilter) -> dict[str, Any]:
    """A page of the user's inbox, newest first, with the unread count of the whole."""
    query = select(Notification).where(Notification.user_id == identity.user_id, *wanted.conditions())
    columns = [getattr(Notification, name) for name in COLUMNS]
    answer = LongList(query, Notification.id).read(page, notification_json, columns)
    unread_ones = unread_count(identity.user_id)
    return {**answer, "unreadCount": unread_ones["count"], "unreadVersion": unread_ones["version"]}
