"""What was sent long ago goes, with all that was kept for it."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from service.clock import utcnow
from service.database import transaction
from service.ids import first_id_at, new_id
from service.notifications.models import ChannelMessage, InboxPlace, NotificationSend
from service.notifications.sending import fill_inboxes
from service.operations.retention import prune
from tests.conftest import Account, MakeUser
from tests.factories.sends import part_of, send_news

pytestmark = pytest.mark.usefixtures("in_app")

LONG = timedelta(days=900)


def id_of(moment: datetime) -> UUID:
    """An id as one that was made then."""
    return UUID(int=first_id_at(moment).int | new_id().int % 2**62)


def send_then(user: Account, made_at: datetime, send_at: datetime | None = None) -> UUID:
    """Something that was sent to a user so long ago, by inbox and e-mail."""
    send_id = send_news([user], id=id_of(made_at), channels=["in_app", "email"])
    assert [place.recipients for place in fill_inboxes(part_of(send_id))] == [1]
    times = {"created_at": made_at, "send_at": send_at}
    with transaction() as session:
        session.execute(update(NotificationSend).where(NotificationSend.id == send_id).values(times))
        for status in ("sent", "suppressed", "pending"):
            message = ChannelMessage(id=id_of(made_at), user_id=user.id, channel="email", template="send", data={})
            message.send_id, message.status, message.created_at = send_id, status, made_at
            message.next_attempt_at = utcnow() + timedelta(days=1)
            session.add(message)
    return send_id


def kept(send_id: UUID) -> tuple[int, int, list[str]]:
    """How many rows there are of a send, of its places, and the statuses of its messages."""
    with transaction() as session:
        sends = select(func.count()).where(NotificationSend.id == send_id)
        places = select(func.count()).where(InboxPlace.send_id == send_id)
        messages = select(ChannelMessage.status).where(ChannelMessage.send_id == send_id).order_by("status")
        return session.scalar(sends) or 0, session.scalar(places) or 0, list(session.scalars(messages))


def test_an_old_send_goes_with_its_places_and_with_what_became_of_its_messages(make_user: MakeUser) -> None:
    user = make_user()
    now = utcnow()
    old, young = send_then(user, now - LONG), send_then(user, now)
    # Ordered long ago, and gone out of late.
    late = send_then(user, now - LONG, send_at=now)
    counts = prune()
    assert counts["sends"] >= 1
    assert counts["messages"] >= 2
    assert kept(old) == (0, 0, ["pending"]), "what is still to be sent is not forgotten"
    assert kept(young) == (1, 1, ["pending", "sent", "suppressed"])
    assert kept(late)[:2] == (1, 1)
