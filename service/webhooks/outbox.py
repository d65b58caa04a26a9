"""The delivery rows as an outbox: claimed many at a time with a lease, recorded many at a time.

`(id, attempts)` is the fence: a sender that was away for longer than its lease records nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from service.clock import utcnow
from service.database import Row, fetch_all, fetch_one, transaction
from service.ids import new_id

# Longer than any POST may take with the writing of its outcome.
LEASE_SECONDS = 30

# A pending row is due when its time has come, a delivering one when the lease of its sender has run out.
CLAIM = """
WITH due AS (
    SELECT id FROM webhook_deliveries
    WHERE status IN ('pending', 'delivering') AND next_attempt_at <= %(now)s
    ORDER BY next_attempt_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED),
claimed AS (
    UPDATE webhook_deliveries AS delivery
    SET status = 'delivering', attempts = attempts + 1, next_attempt_at = %(lease)s
    FROM due WHERE delivery.id = due.id
    RETURNING delivery.id, delivery.webhook_id, delivery.attempts, delivery.payload::text AS payload)
SELECT claimed.*, webhook.url, webhook.secret, webhook.payload_format, coalesce(webhook.active, false) AS active
FROM claimed LEFT JOIN webhooks AS webhook ON webhook.id = claimed.webhook_id
ORDER BY claimed.id
"""


def deliveries_are_due() -> bool:
    """Whether a sender would find anything to claim."""
    with transaction():
        row = fetch_one(
            """
            SELECT EXISTS (SELECT FROM webhook_deliveries
                WHERE status IN ('pending', 'delivering') AND next_attempt_at <= %(now)s) AS due
            """,
            {"now": utcnow()},
        )
    return bool(row and row["due"])


def claim_due(limit: int) -> Sequence[Row]:
    """Up to `limit` due deliveries with their endpoints, now `delivering` for 30 s."""
    now = utcnow()
    with transaction():
        return fetch_all(CLAIM, {"now": now, "lease": now + timedelta(seconds=LEASE_SECONDS), "limit": limit})


@dataclass(frozen=True, slots=True)
class Attempted:
    """What came of one attempt; `status` is the delivery's next one, `record` None where nothing was sent."""

    delivery_id: str
    webhook_id: str
    attempt: int
    status: str
    next_attempt_at: datetime | None
    disables: bool = False
    record: dict[str, Any] | None = None


RECORD = """
WITH outcome AS (
    SELECT * FROM jsonb_to_recordset(%(outcomes)s) AS outcome(id uuid, webhook_id uuid, attempt int, status text,
        next_attempt_at timestamptz, disables boolean, attempt_id uuid, status_code int, error_class text,
        resolved_address text, response_headers jsonb, response_body text, timings jsonb)),
moved AS (
    UPDATE webhook_deliveries AS delivery
    SET status = outcome.status, next_attempt_at = outcome.next_attempt_at
    FROM outcome
    WHERE delivery.id = outcome.id AND delivery.attempts = outcome.attempt AND delivery.status = 'delivering'),
disabled AS (
    UPDATE webhooks SET active = false, disabled_reason = 'gone', updated_at = %(now)s
    WHERE id IN (SELECT webhook_id FROM outcome WHERE disables))
INSERT INTO webhook_attempts (id, delivery_id, attempt, status_code, error_class, resolved_address, response_headers,
    response_body, timings, created_at)
SELECT attempt_id, id, attempt, status_code, error_class, resolved_address, response_headers, response_body, timings,
    %(now)s
FROM outcome WHERE timings IS NOT NULL
"""


def record_attempts(outcomes: Sequence[Attempted]) -> None:
    """Write what came of attempts, in one statement."""
    if not outcomes:
        return
    rows = [
        {
            "id": outcome.delivery_id,
            "webhook_id": outcome.webhook_id,
            "attempt": outcome.attempt,
            "status": outcome.status,
            "next_attempt_at": outcome.next_attempt_at.isoformat() if outcome.next_attempt_at else None,
            "disables": outcome.disables,
            "attempt_id": str(new_id()),
            **(outcome.record or {}),
        }
        for outcome in outcomes
    ]
    with transaction():
        fetch_all(RECORD, {"outcomes": json.dumps(rows), "now": utcnow()})
