"""Endpoints and deliveries as the contract writes them in JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from service.clock import isoformat
from service.webhooks.headers import masked_headers
from service.webhooks.models import Webhook, WebhookAttempt
from service.webhooks.payloads import body_of


def endpoint_json(
    webhook: Webhook, circuit: Mapping[str, Any] | None, old_secret_until: datetime | None
) -> dict[str, Any]:
    """An endpoint without its secret and without the values of its headers."""
    return {
        "id": str(webhook.id),
        "url": webhook.url,
        "eventType": webhook.event_type,
        "description": webhook.description,
        "payloadFormat": webhook.payload_format,
        "headers": masked_headers(webhook.headers),
        "rateLimit": webhook.rate_limit,
        "signatureScheme": webhook.signature_scheme,
        "publicKey": webhook.public_key,
        "active": webhook.active,
        "disabledReason": webhook.disabled_reason,
        "failures": webhook.failures,
        "failingSince": isoformat(webhook.failing_since),
        "circuit": circuit,
        "backlog": webhook.backlog_at is not None,
        "oldSecretValidUntil": isoformat(old_secret_until),
        "createdAt": isoformat(webhook.created_at),
        "updatedAt": isoformat(webhook.updated_at),
    }


def entry_json(row: Mapping[str, Any], attempts: Sequence[WebhookAttempt], body_limit: int | None) -> dict[str, Any]:
    """A delivery with its attempts; bodies of more than `body_limit` bytes are left out."""
    return {
        "id": str(row["id"]),
        "webhookId": str(row["webhook_id"]),
        "eventType": row["event_type"],
        "jobId": str(row["job_id"]) if row["job_id"] else None,
        "status": row["status"],
        "statusCode": row["status_code"],
        "attempts": [_attempt_json(attempt, row["payload"], body_limit) for attempt in attempts],
        "nextAttemptAt": isoformat(row["next_attempt_at"]) if row["status"] == "pending" else None,
        "createdAt": isoformat(row["created_at"]),
    }


def _attempt_json(attempt: WebhookAttempt, payload: Mapping[str, Any] | None, body_limit: int | None) -> dict[str, Any]:
    return {
        "attempt": attempt.attempt,
        "request": _request_json(attempt, payload, body_limit),
        "statusCode": attempt.status_code,
        "errorClass": attempt.error_class,
        "resolvedAddress": attempt.resolved_address,
        "responseHeaders": attempt.response_headers,
        "responseBody": attempt.response_body,
        "timings": attempt.timings,
        "createdAt": isoformat(attempt.created_at),
    }


def _request_json(
    attempt: WebhookAttempt, payload: Mapping[str, Any] | None, body_limit: int | None
) -> dict[str, Any] | None:
    """What was sent, the body made of the payload again; None where nothing could be sent."""
    if attempt.request_url is None or attempt.payload_format is None:
        return None
    body = None if payload is None else body_of(payload, attempt.payload_format)
    if body is not None and body_limit is not None and len(body) > body_limit:
        body = None
    return {
        "method": "POST",
        "url": attempt.request_url,
        "headers": attempt.request_headers or {},
        "body": None if body is None else body.decode(),
    }
