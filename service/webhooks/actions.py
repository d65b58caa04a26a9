"""Writes of endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from redis.exceptions import RedisError
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError

from service.accounts.models import User
from service.audit.actions import record
from service.clock import utcnow
from service.crypto import encrypt
from service.database import after_commit, db, transaction
from service.errors import ValidationFailed
from service.settings import current_settings
from service.webhooks.catalogue import TEST
from service.webhooks.circuits import forget_circuit, probe_first
from service.webhooks.deliveries import plan_sample
from service.webhooks.errors import TooManyWebhooks, WebhookExists, WebhookNotFound
from service.webhooks.guard import BlockedAddress, Guard, UnsafeURL
from service.webhooks.headers import seal_headers
from service.webhooks.models import Webhook, WebhookAttempt, WebhookDelivery, WebhookOldSecret
from service.webhooks.schemas import V1, V1A
from service.webhooks.signing import new_secret, new_signing_key

log = structlog.get_logger(__name__)

# Each event goes to all of them.
MAXIMUM_WEBHOOKS = 100
# By then every delivery process has seen that a circuit has changed.
KNOWN_AFTER = timedelta(seconds=1)


def create_webhook(organization_id: UUID, user_id: UUID, fields: Mapping[str, Any]) -> tuple[Webhook, str]:
    """A new endpoint and its secret; raises WebhookExists, TooManyWebhooks or ValidationFailed."""
    _check_address(fields["url"])
    secret = new_secret()
    with _unique(), transaction() as session:
        if not fields.get("is_legacy"):
            _check_number(user_id)
        webhook = Webhook(organization_id=organization_id, user_id=user_id, secret=encrypt(secret), signature_scheme=V1)
        _set(webhook, fields)
        session.add(webhook)
        session.flush()
        record("webhook.create", "webhook", webhook.id, {"url": webhook.url, "eventType": webhook.event_type})
    return webhook, secret


def change_webhook(webhook: Webhook, fields: Mapping[str, Any]) -> None:
    """Change an endpoint; one that the platform switched off is tried with a test event when it is switched on again.

    Raises WebhookExists, WebhookNotFound where it is gone meanwhile, or ValidationFailed.
    """
    if "url" in fields:
        _check_address(fields["url"])
    with _unique(), transaction() as session:
        lock_webhook(webhook)
        was_active, old_url = webhook.active, webhook.url
        _set(webhook, fields)
        if webhook.url != old_url:
            # Nothing is known of where it leads now.
            webhook.failures, webhook.failing_since = 0, None
            _tell_circuits(forget_circuit, webhook.id)
            if webhook.backlog_at is not None:
                webhook.backlog_at = utcnow() + KNOWN_AFTER
        session.flush()
        if webhook.active and not was_active:
            _switch_on(webhook)
        record("webhook.change", "webhook", webhook.id, {"fields": sorted(fields)})


def lock_webhook(webhook: Webhook) -> None:
    """Have nobody else change an endpoint in the present transaction; raises WebhookNotFound where it is gone."""
    query = select(Webhook).where(Webhook.id == webhook.id).with_for_update(key_share=True)
    if db.session.scalar(query.execution_options(populate_existing=True)) is None:
        raise WebhookNotFound


def _set(webhook: Webhook, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        if name == "headers":
            webhook.headers = seal_headers(value, webhook.headers)
        elif name == "signature_scheme":
            _set_scheme(webhook, value)
        else:
            setattr(webhook, name, value)


def _set_scheme(webhook: Webhook, scheme: str) -> None:
    if scheme == webhook.signature_scheme:
        return
    webhook.signature_scheme = scheme
    if scheme == V1A:
        renew_signing_key(webhook)
        return
    webhook.signing_key = webhook.public_key = None
    of_this = WebhookOldSecret.webhook_id == webhook.id
    db.session.execute(update(WebhookOldSecret).where(of_this).values(signing_key=None))


def renew_signing_key(webhook: Webhook) -> None:
    """Give an endpoint a new key pair."""
    private, public = new_signing_key()
    webhook.signing_key, webhook.public_key = encrypt(private), public


def _switch_on(webhook: Webhook) -> None:
    webhook.failures, webhook.failing_since = 0, None
    if webhook.disabled_reason is not None:
        webhook.disabled_reason = None
        _tell_circuits(probe_first, webhook.id)
        # At the head of a backlog, so that whatever is planned meanwhile waits behind it.
        webhook.backlog_at = utcnow() + KNOWN_AFTER
        plan_sample(webhook, TEST)


def _tell_circuits(tell: Callable[[UUID], None], webhook_id: UUID) -> None:
    """Once this stands. A Redis that is away has no circuits to be told of."""

    def try_to() -> None:
        try:
            tell(webhook_id)
        except RedisError as error:
            log.warning("circuit_not_told", webhook_id=str(webhook_id), error=str(error))

    after_commit(try_to)


def delete_webhook(webhook: Webhook) -> None:
    """Delete an endpoint with its deliveries and their attempts."""
    with transaction() as session:
        # Before its deliveries, as those who record attempts have it.
        lock_webhook(webhook)
        deliveries = select(WebhookDelivery.id).where(WebhookDelivery.webhook_id == webhook.id)
        session.execute(delete(WebhookAttempt).where(WebhookAttempt.delivery_id.in_(deliveries)))
        session.execute(delete(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook.id))
        session.delete(webhook)
        record("webhook.delete", "webhook", webhook.id, {"url": webhook.url})
        _tell_circuits(forget_circuit, webhook.id)


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


def _check_number(user_id: UUID) -> None:
    # Locked, for two who count at once would both find room for one.
    db.session.execute(select(User.id).where(User.id == user_id).with_for_update(key_share=True))
    count = db.session.scalar(select(func.count()).where(Webhook.user_id == user_id)) or 0
    if count >= MAXIMUM_WEBHOOKS:
        raise TooManyWebhooks


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
