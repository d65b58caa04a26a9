"""Reads of subscriptions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select

from service.crypto import decrypt
from service.database import db, transaction
from service.push.models import PushSubscription


def subscriptions_of(user_id: UUID) -> Sequence[PushSubscription]:
    """A user's browsers, the newest first."""
    query = select(PushSubscription).where(PushSubscription.user_id == user_id).order_by(PushSubscription.id.desc())
    return db.session.scalars(query).all()


class Device(NamedTuple):
    """A browser, as one who pushes to it needs it; `keys` has `p256dh` and `auth`."""

    id: UUID
    endpoint: str
    keys: Mapping[str, str]


def devices_of(user_id: UUID) -> Sequence[Device]:
    """A user's browsers with their keys; nothing of the database is held afterwards."""
    with transaction():
        return [Device(each.id, each.endpoint, json.loads(decrypt(each.keys))) for each in subscriptions_of(user_id)]
