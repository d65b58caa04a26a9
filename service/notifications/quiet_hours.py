"""The hours in which a user wants to hear of nothing but what is critical, by the clock of his time zone.

When they end is `quiet_until(at, zone, hours)` in SQL: what plans a message asks it (`preferences.decision`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from service.accounts.models import User
from service.database import transaction
from service.errors import NotAuthenticated


def quiet_hours_of(user_id: UUID) -> dict[str, Any]:
    """`{start, end, timezone}`; start and end are null where there are none. Raises NotAuthenticated."""
    with transaction():
        return _json(_user(user_id))


def set_quiet_hours(user_id: UUID, hours: Mapping[str, str] | None) -> dict[str, Any]:
    """Set `{start, end}`, or None for no quiet hours; what is held already keeps its time. Raises NotAuthenticated."""
    with transaction():
        user = _user(user_id, for_update=True)
        user.quiet_hours = None if hours is None else {"start": hours["start"], "end": hours["end"]}
        return _json(user)


def _user(user_id: UUID, *, for_update: bool = False) -> User:
    with transaction() as session:
        user = session.get(User, user_id, with_for_update={"key_share": True} if for_update else None)
    if user is None or not user.is_active:
        raise NotAuthenticated
    return user


def _json(user: User) -> dict[str, Any]:
    hours = user.quiet_hours or {"start": None, "end": None}
    return {**hours, "timezone": user.timezone}
