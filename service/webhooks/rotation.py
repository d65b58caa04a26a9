"""The exchange of secrets: those before a new one sign beside it for a while, so that no receiver misses anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, or_, select

from service.audit.actions import record
from service.clock import utcnow
from service.crypto import encrypt
from service.database import transaction
from service.webhooks.actions import lock_webhook, renew_signing_key
from service.webhooks.models import Webhook, WebhookOldSecret
from service.webhooks.schemas import V1A
from service.webhooks.signing import new_secret

# Each makes every request longer and its signing slower.
MAXIMUM_OLD_SECRETS = 5


@dataclass(frozen=True)
class Rotated:
    """A new secret, and until when the one before it signs too; None where it does no more."""

    secret: str
    old_valid_until: datetime | None


def rotate_secret(webhook: Webhook, overlap: int) -> Rotated:
    """Give an endpoint a new secret, and with `v1a` a new key pair; those up to now sign for `overlap` seconds more.

    Those of earlier rotations keep their times; with an overlap of 0 all end at once. Raises WebhookNotFound where the
    endpoint is gone meanwhile.
    """
    now = utcnow()
    secret = new_secret()
    until = now + timedelta(seconds=overlap) if overlap else None
    with transaction() as session:
        lock_webhook(webhook)
        if until is not None:
            session.add(
                WebhookOldSecret(
                    webhook_id=webhook.id, secret=webhook.secret, signing_key=webhook.signing_key, valid_until=until
                )
            )
            session.flush()
        _forget_old_secrets(webhook, now if until is not None else None)
        webhook.secret = encrypt(secret)
        if webhook.signature_scheme == V1A:
            renew_signing_key(webhook)
        record("webhook.rotate_secret", "webhook", webhook.id, {"overlapSeconds": overlap})
    return Rotated(secret, until)


def _forget_old_secrets(webhook: Webhook, now: datetime | None) -> None:
    """Delete those that are no longer valid and those beyond the newest few; all where no time is given."""
    old = delete(WebhookOldSecret).where(WebhookOldSecret.webhook_id == webhook.id)
    if now is not None:
        of_this = WebhookOldSecret.webhook_id == webhook.id
        newest = select(WebhookOldSecret.id).where(of_this).order_by(WebhookOldSecret.id.desc())
        kept = newest.limit(MAXIMUM_OLD_SECRETS)
        old = old.where(or_(WebhookOldSecret.valid_until <= now, WebhookOldSecret.id.not_in(kept)))
    with transaction() as session:
        session.execute(old)
