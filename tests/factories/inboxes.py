"""Notifications in inboxes, and what was sent to many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, text

from service.clock import utcnow
from service.database import transaction
from service.ids import new_id
from service.notifications.approvals import APPROVAL, approval_actions
from service.notifications.counts import UNREAD, count_unread
from service.notifications.models import Notification, NotificationSend
from tests.conftest import Account

WORDS = {"type": "news", "category": "system", "title": "News", "message": "There is news.", "data": {}}


def put_in(user: Account, **columns: Any) -> UUID:
    """Something new in a user's inbox, counted; its id."""
    row = {"id": new_id(), "event_id": new_id(), "created_at": utcnow(), **WORDS, **columns}
    with transaction() as session:
        session.execute(
            insert(Notification).values(user_id=user.id, organization_id=user.organization_id, **row),
        )
        count_unread(user.id, 1)
    notification_id: UUID = row["id"]
    return notification_id


def ask_for_approval(sender: Account, asked: Sequence[Account]) -> dict[UUID, UUID]:
    """An approval, sent by somebody to many; the notification of each by user."""
    send_id = new_id()
    with transaction() as session:
        session.add(
            NotificationSend(
                id=send_id,
                organization_id=sender.organization_id,
                sender_id=sender.id,
                actions=approval_actions(),
                audience={"userIds": [str(each.id) for each in asked]},
                channels=["in_app"],
                is_critical=False,
                **{**WORDS, "type": APPROVAL, "title": "Deploy on Friday?"},
            )
        )
        session.flush()
    return {
        user.id: put_in(user, send_id=send_id, type=APPROVAL, title="Deploy on Friday?", actions=approval_actions())
        for user in asked
    }


def recounted(user: Account) -> int:
    """How much of an inbox is unread, counted anew."""
    with transaction() as session:
        query = select(func.count()).select_from(Notification).where(Notification.user_id == user.id, text(UNREAD))
        return session.scalar(query) or 0
