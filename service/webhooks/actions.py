"""Writes of endpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from service.audit.actions import record
from service.crypto import encrypt
from service.database import db, transaction
from service.errors import Conflict, ValidationFailed
from service.settings import current_settings
from service.webhooks.guard import BlockedAddress, Guard, UnsafeURL
from service.webhooks.models import Webhook, WebhookAttempt, WebhookDelivery
from service.webhooks.signing import new_secret


class WebhookExists(Conflict):
    """There is an endpoint for this URL and event type already."""

    code = "webhook_exists"


def create_webhook(organization_id: UUID, user_id: UUID, fields: Mapping[str, Any]) -> tuple[Webhook, str]:
    """A new endpoint and its secret; raises WebhookExists or ValidationFailed."""
    _check_address(fields["url"])
    secret = new_secret()
    webhook = Webhook(organization_id=organization_id, user_id=user_id, secret=encrypt(secret), **fields)
    with _unique(), transaction() as session:
        session.add(webhook)
        session.flush()
        record("webhook.create", "webhook", webhook.id, {"url": webhook.url, "eventType": webhook.event_type})
    return webhook, secret


def change_webhook(webhook: Webhook, fields: Mapping[str, Any]) -> None:
    """Change an endpoint; raises WebhookExists or ValidationFailed."""
    if "url" in fields:
        _check_address(fields["url"])
    with _unique(), transaction():
        for name, value in fields.items():
            setattr(webhook, name, value)
        if fields.get("active"):
            webhook.disabled_reason = None
        record("webhook.change", "webhook", webhook.id, {"fields": sorted(fields)})


def delete_webhook(webhook: Webhook) -> None:
    """Delete an endpoint with its deliveries and their attempts."""
    with transaction() as session:
        deliveries = select(WebhookDelivery.id).where(WebhookDelivery.webhook_id == webhook.id)
        session.execute(delete(WebhookAttempt).where(WebhookAttempt.delivery_id.in_(deliveries)))
        session.execute(delete(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook.id))
        session.delete(webhook)
        record("webhook.delete", "webhook", webhook.id, {"url": webhook.url})


def set_legacy_webhook(organization_id: UUID, user_id: UUID, url: str | None) -> None:
    """Make `url` the single legacy URL of a user: an endpoint for completed jobs in the flat format; None: none."""
    with transaction() as session:
        webhook = session.scalar(select(Webhook).where(Webhook.user_id == user_id, Webhook.is_legacy).with_for_update())
        if url is None:
            if webhook is not None:
                delete_webhook(webhook)
        elif webhook is None:
            fields = {"url": url, "event_type": "completed", "payload_format": "flat", "is_legacy": True}
            create_webhook(organization_id, user_id, fields)
        elif webhook.url != url:
            change_webhook(webhook, {"url": url, "active": True})


def legacy_url(user_id: UUID) -> str | None:
    """The legacy URL of a user."""
    return db.session.scalar(select(Webhook.url).where(Webhook.user_id == user_id, Webhook.is_legacy))


def _check_address(url: str) -> None:
    try:
        Guard(current_settings().webhook_networks).check_url(url)
    except (UnsafeURL, BlockedAddress) as error:
        raise ValidationFailed(errors={"url": [f"This URL cannot be used: {error}"]}) from None


@contextmanager
def _unique() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise WebhookExists from None
