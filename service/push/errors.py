"""What can go wrong with subscriptions."""

from __future__ import annotations

from service.errors import NotFound


class SubscriptionNotFound(NotFound):
    """There is no such subscription."""

    code = "subscription_not_found"
