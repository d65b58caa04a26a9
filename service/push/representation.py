"""A subscription in JSON."""

from __future__ import annotations

from typing import Any

from service.clock import isoformat
from service.push.models import PushSubscription


def subscription_json(subscription: PushSubscription) -> dict[str, Any]:
    """The subscription, without its keys."""
    return {
        "id": str(subscription.id),
        "endpoint": subscription.endpoint,
        "userAgent": subscription.user_agent,
        "createdAt": isoformat(subscription.created_at),
    }
