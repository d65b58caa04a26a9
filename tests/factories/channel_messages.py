"""Messages to leave by a channel, without a sender."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, update

from service.clock import utcnow
from service.database import db, transaction
from service.ids import new_id
from service.notifications.models import ChannelMessage
from tests.conftest import Account


def hold(user: Account, count: int = 1, *, due: bool = True, channel: str = "email", **columns: Any) -> list[UUID]:
    """Held messages of a user, due or in an hour; their ids."""
    at = utcnow() + (timedelta(seconds=-1) if due else timedelta(hours=1))
    rows = [
        ChannelMessage(
            id=new_id(),
            user_id=user.id,
            organization_id=user.organization_id,
            channel=channel,
            status="held",
            next_attempt_at=at,
            **{
                "reason": "quiet_hours",
                "template": "webhook_failing",
                "data": {"subject": f"News {number}", "text": "Read them."},
                **columns,
            },
        )
        for number in range(count)
    ]
    with transaction() as session:
        session.add_all(rows)
        return [row.id for row in rows]


def messages(user: Account) -> list[ChannelMessage]:
    """All messages of a user as they are now, oldest first."""
    db.session.rollback()
    query = select(ChannelMessage).where(ChannelMessage.user_id == user.id).order_by(ChannelMessage.id)
    rows = list(db.session.scalars(query))
    db.session.expunge_all()
    return rows


def make_due(user: Account) -> None:
    """Let the time of the user's held messages come."""
    with transaction() as session:
        held = (ChannelMessage.user_id == user.id, ChannelMessage.status == "held")
        session.execute(update(ChannelMessage).where(*held).values(next_attempt_at=utcnow()))
