"""What browsers and push services do to subscriptions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import delete, select

from service.accounts.models import User
from service.clock import utcnow
from service.crypto import decrypt, encrypt
from service.database import transaction
from service.errors import ValidationFailed
from service.ids import new_id
from service.push.errors import SubscriptionNotFound
from service.push.models import PushSubscription
from service.settings import current_settings
from service.webhooks.guard import Guard, UnsafeURL

# Browsers come with every new device and are rarely signed off; the oldest make room.
SUBSCRIPTIONS_PER_USER = 20
USER_AGENT_LENGTH = 300


def subscribe(user_id: UUID, endpoint: str, keys: Mapping[str, str], user_agent: str | None) -> PushSubscription:
    """Have a browser take the user's pushes, and those of nobody who used it before; raises ValidationFailed.

    The same browser again counts as new.
    """
    _check(endpoint)
    with transaction() as session:
        # Two browsers at once must not both take the last place.
        session.execute(select(User.id).where(User.id == user_id).with_for_update(key_share=True))
        for former in session.scalars(select(PushSubscription).where(PushSubscription.endpoint == endpoint)):
            # Who knows the secret of a browser is that browser; the address alone could have been found somewhere.
            if former.user_id == user_id or json.loads(decrypt(former.keys))["auth"] == keys["auth"]:
                session.delete(former)
        session.flush()
        subscription = PushSubscription(
            id=new_id(),
            user_id=user_id,
            endpoint=endpoint,
            keys=encrypt(json.dumps(dict(keys))),
            user_agent=user_agent[:USER_AGENT_LENGTH] if user_agent else None,
            created_at=utcnow(),
        )
        session.add(subscription)
        session.flush()
        _make_room(user_id)
    return subscription


def _check(endpoint: str) -> None:
    settings = current_settings()
    try:
        target = Guard(settings.webhook_networks).check_url(endpoint)
    except UnsafeURL as refusal:
        raise ValidationFailed(errors={"endpoint": [f"This address is not allowed ({refusal.reason})."]}) from None
    if settings.is_production and target.scheme != "https":
        raise ValidationFailed(errors={"endpoint": ["Must begin with https://."]})


def _make_room(user_id: UUID) -> None:
    newest = (
        select(PushSubscription.id)
        .where(PushSubscription.user_id == user_id)
        .order_by(PushSubscription.id.desc())
        .limit(SUBSCRIPTIONS_PER_USER)
    )
    with transaction() as session:
        session.execute(
            delete(PushSubscription).where(
                PushSubscription.user_id == user_id, PushSubscription.id.not_in(newest.scalar_subquery())
            )
        )


def unsubscribe(user_id: UUID, *, endpoint: str | None = None, subscription_id: UUID | None = None) -> None:
    """Have a browser of the user, by either name, take no more pushes; raises SubscriptionNotFound."""
    query = delete(PushSubscription).where(PushSubscription.user_id == user_id)
    if subscription_id is None:
        query = query.where(PushSubscription.endpoint == endpoint)
    else:
        query = query.where(PushSubscription.id == subscription_id)
    with transaction() as session:
        if not session.scalars(query.returning(PushSubscription.id)).all():
            raise SubscriptionNotFound


def forget_subscription(subscription_id: UUID) -> None:
    """Delete a subscription that its push service does not know any more."""
    with transaction() as session:
        session.execute(delete(PushSubscription).where(PushSubscription.id == subscription_id))
