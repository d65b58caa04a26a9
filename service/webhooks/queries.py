"""Reads of endpoints and deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select

from service.accounts.identity import Identity
from service.clock import isoformat
from service.database import db
from service.errors import NotAllowed, NotFound
from service.pagination import LongList, Page, paginate
from service.webhooks.models import Webhook, WebhookAttempt, WebhookDelivery


class WebhookNotFound(NotFound):
    """There is no such webhook."""

    code = "webhook_not_found"


def own_webhook(webhook_id: UUID, identity: Identity) -> Webhook:
    """An endpoint of the user; raises WebhookNotFound across tenants, NotAllowed within one."""
    webhook = db.session.get(Webhook, webhook_id)
    if webhook is None or webhook.organization_id != identity.organization_id:
        raise WebhookNotFound
    if webhook.user_id != identity.user_id:
        raise NotAllowed
    return webhook


def webhook_json(webhook: Webhook) -> dict[str, Any]:
    """An endpoint without its secret."""
    return {
        "id": str(webhook.id),
        "url": webhook.url,
        "eventType": webhook.event_type,
        "description": webhook.description,
        "payloadFormat": webhook.payload_format,
        "active": webhook.active,
        "disabledReason": webhook.disabled_reason,
        "createdAt": isoformat(webhook.created_at),
        "updatedAt": isoformat(webhook.updated_at),
    }


def list_webhooks(identity: Identity, page: Page) -> dict[str, Any]:
    """A page of the user's endpoints, newest first."""
    query = select(Webhook).where(Webhook.user_id == identity.user_id).order_by(Webhook.id.desc())
    return paginate(query, page, webhook_json)


def list_deliveries(webhook: Webhook, status: str | None, page: Page) -> dict[str, Any]:
    """A page of an endpoint's deliveries with their attempts, newest first."""
    query = select(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook.id)
    if status is not None:
        query = query.where(WebhookDelivery.status == status)
    listed = LongList(query, WebhookDelivery.id).read(page, _delivery_json)
    attempts = _attempts([delivery["id"] for delivery in listed["data"]])
    for delivery in listed["data"]:
        delivery["attempts"] = attempts.get(UUID(delivery["id"]), [])
    return listed


def _attempts(delivery_ids: Sequence[str]) -> dict[UUID, list[dict[str, Any]]]:
    query = select(WebhookAttempt).where(WebhookAttempt.delivery_id.in_(delivery_ids)).order_by(WebhookAttempt.id)
    attempts: dict[UUID, list[dict[str, Any]]] = {}
    for attempt in db.session.scalars(query):
        attempts.setdefault(attempt.delivery_id, []).append(
            {
                "attempt": attempt.attempt,
                "statusCode": attempt.status_code,
                "errorClass": attempt.error_class,
                "resolvedAddress": attempt.resolved_address,
                "responseHeaders": attempt.response_headers,
                "responseBody": attempt.response_body,
                "timings": attempt.timings,
                "createdAt": isoformat(attempt.created_at),
            }
        )
    return attempts


def _delivery_json(delivery: WebhookDelivery) -> dict[str, Any]:
    waits = delivery.status == "pending"
    return {
        "id": str(delivery.id),
        "eventType": delivery.event_type,
        "jobId": str(delivery.job_id) if delivery.job_id else None,
        "status": delivery.status,
        "nextAttemptAt": isoformat(delivery.next_attempt_at) if waits else None,
        "createdAt": isoformat(delivery.created_at),
    }
