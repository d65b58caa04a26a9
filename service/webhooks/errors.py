"""What can go wrong with endpoints and deliveries."""

from __future__ import annotations

from service.errors import Conflict, NotFound


class WebhookNotFound(NotFound):
    """There is no such webhook."""

    code = "webhook_not_found"


class DeliveryNotFound(NotFound):
    """There is no such delivery."""

    code = "webhook_delivery_not_found"


class WebhookExists(Conflict):
    """There is an endpoint for this URL and event type already."""

    code = "webhook_exists"


class TooManyWebhooks(Conflict):
    """You have as many endpoints as a user may have."""

    code = "too_many_webhooks"


class WebhookIsOff(Conflict):
    """The endpoint is switched off: switch it on first."""

    code = "webhook_disabled"


class DeliveryUnderWay(Conflict):
    """The delivery is being sent at this moment."""

    code = "delivery_under_way"
