"""Deliveries that people ask for: a sample of an event to one endpoint, and one more round for what was planned."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select, update

from service.audit.actions import record
from service.clock import utcnow
from service.database import after_commit, db, transaction
from service.ids import new_id
from service.notifier.channels.webhook import DELIVERY_TASK
from service.queue import wake
from service.webhooks.catalogue import COMPLETED, KINDS, TEST, EventKind
from service.webhooks.errors import DeliveryUnderWay, WebhookIsOff, WebhookNotFound
from service.webhooks.models import Webhook, WebhookDelivery
from service.webhooks.payloads import FLAT


def send_sample(webhook: Webhook, event_type: str | None) -> UUID:
    """Plan a delivery of a sample of this type of event, or of a test event; its id. Raises WebhookIsOff."""
    if not webhook.active:
        raise WebhookIsOff
    with transaction():
        delivery_id = plan_sample(webhook, TEST if event_type is None else KINDS[event_type])
        record("webhook.test", "webhook", webhook.id, {"eventType": event_type, "deliveryId": str(delivery_id)})
    return delivery_id


def plan_sample(webhook: Webhook, kind: EventKind) -> UUID:
    """Plan a delivery of a sample to one endpoint, due at once, in the present transaction; its id."""
    now = utcnow()
    if kind is TEST and webhook.payload_format == FLAT:
        # Its receiver knows nothing else.
        kind = COMPLETED
    data = {**kind.sample, "webhookId": str(webhook.id)} if kind is TEST else kind.sample
    delivery = WebhookDelivery(
        id=new_id(),
        organization_id=webhook.organization_id,
        user_id=webhook.user_id,
        webhook_id=webhook.id,
        event_id=new_id(),
        event_type=kind.type,
        payload=kind.payload(data, now),
        status="pending",
        attempts=0,
        in_backlog=webhook.backlog_at is not None,
        next_attempt_at=now,
        created_at=now,
    )
    db.session.add(delivery)
    after_commit(lambda: wake(DELIVERY_TASK))
    return delivery.id


def resend(delivery: WebhookDelivery) -> None:
    """Have a delivery sent anew, with the whole schedule before it, under the id that it has.

    Raises WebhookIsOff, DeliveryUnderWay, and WebhookNotFound where its endpoint is gone.
    """
    with transaction() as session:
        endpoint = session.execute(
            select(Webhook.active, Webhook.backlog_at).where(Webhook.id == delivery.webhook_id)
        ).one_or_none()
        if endpoint is None:
            raise WebhookNotFound
        if not endpoint.active:
            raise WebhookIsOff
        sent_anew = (
            update(WebhookDelivery)
            .where(WebhookDelivery.id == delivery.id, WebhookDelivery.status != "delivering")
            .values(
                status="pending",
                next_attempt_at=utcnow(),
                free_attempts=WebhookDelivery.attempts,
                in_backlog=endpoint.backlog_at is not None,
            )
            .returning(WebhookDelivery.id)
        )
        if session.scalar(sent_anew) is None:
            raise DeliveryUnderWay
        record("webhook.resend", "webhook", delivery.webhook_id, {"deliveryId": str(delivery.id)})
        after_commit(lambda: wake(DELIVERY_TASK))
