"""Endpoints and deliveries, without a sender."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from service.clock import utcnow
from service.crypto import encrypt
from service.database import Row, db, transaction
from service.ids import new_id
from service.webhooks.models import Webhook, WebhookDelivery
from service.webhooks.outbox import Attempted
from service.webhooks.signing import new_secret
from tests.conftest import Account

ANSWERED = {"payload_format": "standard", "timings": {}}


def make_endpoint(user: Account, **fields: Any) -> UUID:
    """An endpoint of a user."""
    given = {"url": f"https://example.com/{new_id()}", "event_type": "completed", **fields}
    with transaction() as session:
        webhook = Webhook(organization_id=user.organization_id, user_id=user.id, secret=encrypt(new_secret()), **given)
        session.add(webhook)
        session.flush()
        return webhook.id


def plan_deliveries(user: Account, webhook_id: UUID, count: int, **fields: Any) -> list[UUID]:
    """Deliveries that are due, the first event first."""
    now = utcnow()
    state: dict[str, Any] = {"status": "pending", "attempts": 0, "next_attempt_at": now, **fields}
    with transaction() as session:
        rows = [
            WebhookDelivery(
                id=new_id(),
                organization_id=user.organization_id,
                user_id=user.id,
                webhook_id=webhook_id,
                event_id=new_id(),
                event_type="job.completed",
                payload={"type": "job.completed", "data": {"id": str(new_id()), "result": None}},
                created_at=now,
                **state,
            )
            for _ in range(count)
        ]
        session.add_all(rows)
        return [row.id for row in rows]


def delivery(delivery_id: UUID) -> WebhookDelivery:
    """A delivery as it stands."""
    db.session.expire_all()
    found = db.session.get(WebhookDelivery, delivery_id)
    assert found is not None
    return found


def endpoint(webhook_id: UUID) -> Webhook:
    """An endpoint as it stands."""
    db.session.expire_all()
    found = db.session.get(Webhook, webhook_id)
    assert found is not None
    return found


def outcome(
    row: Row, status: str = "delivered", verdict: str = "success", next_attempt_at: datetime | None = None, **more: Any
) -> Attempted:
    """What came of an attempt at a claimed delivery."""
    return Attempted(
        delivery_id=str(row["id"]),
        webhook_id=str(row["webhook_id"]),
        attempt=row["attempts"],
        status=status,
        verdict=verdict,
        next_attempt_at=next_attempt_at,
        record=ANSWERED,
        **more,
    )
