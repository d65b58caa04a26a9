"""Users whom the platform cannot tell anything."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import update

from service.accounts.models import User
from service.database import transaction


def make_untellable(user_id: UUID) -> None:
    """Break what the plan of every mail to this user reads."""
    with transaction() as session:
        broken = {"start": "at dusk", "end": "07:00"}
        session.execute(update(User).where(User.id == user_id).values(quiet_hours=broken))


def make_tellable(user_id: UUID) -> None:
    """Mend it."""
    with transaction() as session:
        session.execute(update(User).where(User.id == user_id).values(quiet_hours=None))
