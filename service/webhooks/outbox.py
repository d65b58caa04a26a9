"""The delivery rows as an outbox: claimed many at a time with a lease, recorded many at a time.

`(id, attempts)` is the fence: a sender that was away for longer than its lease records nothing. What an endpoint has no
room for goes into its backlog (`service.webhooks.backlog`), so that it is not in the way of others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from service.clock import utcnow
from service.database import Row, fetch_all, fetch_one, transaction
from service.events import WebhookDisabled, WebhookFailing, publish
from service.ids import new_id

# Longer than any POST may take with the writing of its outcome.
LEASE_SECONDS = 20
# Failures in a row at which the owner is warned, and at which the endpoint is switched off; the latter also after this
# time of nothing but failure.
WARNS_AT = 50
DISABLES_AT = 100
DISABLES_AFTER = timedelta(days=5)

# Of `claimed`, the rows that are to be sent, with all that sending needs. Fernet's tokens are ASCII.
READY = """
SELECT claimed.id, claimed.webhook_id, claimed.event_type, claimed.attempts, claimed.free_attempts,
    claimed.payload::text AS payload,
    webhook.url, webhook.secret, webhook.headers, webhook.payload_format, webhook.signing_key,
    (SELECT json_agg(json_build_object('secret', convert_from(old.secret, 'SQL_ASCII'),
            'signingKey', convert_from(old.signing_key, 'SQL_ASCII')) ORDER BY old.valid_until DESC)
        FROM webhook_old_secrets AS old WHERE old.webhook_id = webhook.id AND old.valid_until > %(now)s)::text AS old
FROM claimed JOIN webhooks AS webhook ON webhook.id = claimed.webhook_id
WHERE claimed.status = 'delivering'
ORDER BY claimed.id
"""

# A pending row is due when its time has come, a delivering one when the lease of its sender has run out. `room` are the
# endpoints that have room for more, or fewer, than `places`.
CLAIM = f"""
WITH due AS (
    SELECT id, webhook_id, next_attempt_at FROM webhook_deliveries
    WHERE status IN ('pending', 'delivering') AND NOT in_backlog AND next_attempt_at <= %(now)s
    ORDER BY next_attempt_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED),
judged AS (
    SELECT due.id, webhook.active IS NOT TRUE AS is_off,
        row_number() OVER (PARTITION BY due.webhook_id ORDER BY due.next_attempt_at, due.id)
            > CASE WHEN webhook.rate_limit IS NULL AND webhook.backlog_at IS NULL
                THEN coalesce(room.places, %(places)s) ELSE 0 END AS must_wait
    FROM due LEFT JOIN webhooks AS webhook ON webhook.id = due.webhook_id
        LEFT JOIN jsonb_to_recordset(%(room)s) AS room(id uuid, places int) ON room.id = due.webhook_id),
claimed AS (
    UPDATE webhook_deliveries AS delivery
    SET status = CASE WHEN is_off THEN 'skipped' WHEN must_wait THEN 'pending' ELSE 'delivering' END,
        in_backlog = must_wait AND NOT is_off,
        attempts = attempts + CASE WHEN is_off OR must_wait THEN 0 ELSE 1 END,
        next_attempt_at = CASE WHEN is_off THEN NULL WHEN must_wait THEN next_attempt_at ELSE %(lease)s END
    FROM judged
    -- Said twice, for a plan made while the table was small would read it from end to end ever after.
    WHERE delivery.id = judged.id AND delivery.id = ANY(ARRAY(SELECT id FROM judged))
    RETURNING delivery.*),
behind AS (
    UPDATE webhooks SET backlog_at = coalesce(backlog_at, %(now)s)
    -- Of those that somebody else holds, the backlogs are found a little later (see STRANDED).
    WHERE id IN (SELECT id FROM webhooks WHERE id IN (SELECT webhook_id FROM claimed WHERE in_backlog)
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING id),
counted AS (SELECT (SELECT count(*) FROM claimed) AS seen, (SELECT count(*) FROM behind) AS behind)
SELECT counted.*, ready.* FROM counted LEFT JOIN ({READY}) AS ready ON true
"""


def deliveries_are_due() -> bool:
    """Whether a sender would find anything to claim."""
    with transaction():
        row = fetch_one(
            """
            SELECT EXISTS (SELECT FROM webhook_deliveries
                WHERE status IN ('pending', 'delivering') AND NOT in_backlog AND next_attempt_at <= %(now)s)
                OR EXISTS (SELECT FROM webhooks WHERE backlog_at <= %(now)s) AS due
            """,
            {"now": utcnow()},
        )
    return bool(row and row["due"])


@dataclass(frozen=True, slots=True)
class Claimed:
    """Deliveries to be sent, now `delivering`; how many were looked at, and whether some went into a backlog."""

    rows: Sequence[Row]
    seen: int
    met_backlog: bool


def claim_due(limit: int, places: int, room: Mapping[str, int]) -> Claimed:
    """Claim up to `limit` due deliveries for 20 s: of each endpoint as many as it has room for.

    `room`: how many more may be sent to an endpoint, by id; `places`: to every other one. The rest goes into the
    backlogs of their endpoints; what endpoints that are switched off were to get is skipped.
    """
    now = utcnow()
    with transaction(is_single=True):
        rows = fetch_all(
            CLAIM,
            {
                "now": now,
                "lease": now + timedelta(seconds=LEASE_SECONDS),
                "limit": limit,
                "places": places,
                "room": json.dumps([{"id": endpoint, "places": free} for endpoint, free in room.items()]),
            },
        )
    return Claimed([row for row in rows if row["id"] is not None], rows[0]["seen"], bool(rows[0]["behind"]))


@dataclass(frozen=True, slots=True)
class Attempted:
    """What came of one attempt; `status` is the delivery's next one.

    `verdict`: of `service.webhooks.schedule`, or `internal` for a fault of ours; `is_free`: the attempt does not count;
    `retry_after`: seconds for which the endpoint asked to be left alone.
    """

    delivery_id: str
    webhook_id: str
    attempt: int
    status: str
    verdict: str
    next_attempt_at: datetime | None
    record: Mapping[str, Any]
    is_free: bool = False
    retry_after: float = 0.0
    # Of its row in the log: what is recorded twice, for an answer was lost, counts once.
    attempt_id: UUID = field(default_factory=new_id)


RECORD = """
WITH outcome AS (
    SELECT * FROM jsonb_to_recordset(%(outcomes)s) AS outcome(id uuid, webhook_id uuid, attempt int, status text,
        verdict text, next_attempt_at timestamptz, is_free boolean, attempt_id uuid, request_url text,
        request_headers jsonb, payload_format text, status_code int, error_class text, resolved_address text,
        response_headers jsonb, response_body text, timings jsonb)),
moved AS (
    UPDATE webhook_deliveries AS delivery
    SET status = outcome.status, next_attempt_at = outcome.next_attempt_at, status_code = outcome.status_code,
        free_attempts = free_attempts + outcome.is_free::int
    FROM outcome
    WHERE delivery.id = outcome.id AND delivery.attempts = outcome.attempt AND delivery.status = 'delivering'
        AND delivery.id = ANY(ARRAY(SELECT id FROM outcome))),
noted AS (
    INSERT INTO webhook_attempts (id, delivery_id, attempt, request_url, request_headers, payload_format, status_code,
        error_class, resolved_address, response_headers, response_body, timings, created_at)
    SELECT attempt_id, id, attempt, request_url, request_headers, payload_format, status_code, error_class,
        resolved_address, response_headers, response_body, timings, %(now)s
    FROM outcome
    ON CONFLICT (id) DO NOTHING
    RETURNING id),
-- What was sent to the URL before is not charged to the present one.
tally AS (
    SELECT outcome.webhook_id, bool_or(verdict = 'success') AS succeeded, bool_or(verdict = 'gone') AS gone,
        count(*) FILTER (WHERE verdict IN ('transient', 'permanent', 'gone')) AS failed
    FROM outcome JOIN noted ON noted.id = outcome.attempt_id
        JOIN webhooks AS charged ON charged.id = outcome.webhook_id
            AND charged.url = coalesce(outcome.request_url, charged.url)
    GROUP BY outcome.webhook_id),
before AS (
    SELECT webhook.id, webhook.failures, webhook.active, tally.*,
        coalesce(tally.gone OR NOT tally.succeeded AND (webhook.failures + tally.failed >= %(disables_at)s
            OR webhook.failing_since < %(disables_before)s), false) AS ends
    FROM webhooks AS webhook JOIN tally ON tally.webhook_id = webhook.id
    WHERE CASE WHEN tally.succeeded THEN webhook.failures > 0 OR tally.gone ELSE tally.failed > 0 END
    ORDER BY webhook.id FOR UPDATE OF webhook)
UPDATE webhooks AS webhook
SET failures = CASE WHEN before.succeeded THEN 0 ELSE before.failures + before.failed END,
    failing_since = CASE WHEN NOT before.succeeded THEN coalesce(webhook.failing_since, %(now)s) END,
    active = webhook.active AND NOT before.ends,
    disabled_reason = CASE WHEN webhook.active AND before.ends
        THEN CASE WHEN before.gone THEN 'gone' ELSE 'failing' END ELSE webhook.disabled_reason END
FROM before WHERE webhook.id = before.id
RETURNING webhook.id, webhook.organization_id, webhook.user_id, webhook.url, webhook.failures,
    webhook.failing_since, webhook.disabled_reason,
    before.active AND before.ends AS was_disabled,
    before.active AND NOT before.ends AND NOT before.succeeded
        AND before.failures < %(warns_at)s AND webhook.failures >= %(warns_at)s AS is_warned
"""


def record_attempts(outcomes: Sequence[Attempted]) -> None:
    """Write what came of attempts, count it for their endpoints, and tell the owners of those that fail too often."""
    if not outcomes:
        return
    now = utcnow()
    with transaction():
        endpoints = fetch_all(
            RECORD,
            {
                "outcomes": json.dumps([_outcome_row(outcome) for outcome in outcomes]),
                "now": now,
                "warns_at": WARNS_AT,
                "disables_at": DISABLES_AT,
                "disables_before": now - DISABLES_AFTER,
            },
        )
        publish(*(WebhookDisabled(endpoint) for endpoint in endpoints if endpoint["was_disabled"]))
        publish(*(WebhookFailing(endpoint) for endpoint in endpoints if endpoint["is_warned"]))


def _outcome_row(outcome: Attempted) -> dict[str, Any]:
    return {
        "id": outcome.delivery_id,
        "webhook_id": outcome.webhook_id,
        "attempt": outcome.attempt,
        "status": outcome.status,
        "verdict": outcome.verdict,
        "next_attempt_at": outcome.next_attempt_at.isoformat() if outcome.next_attempt_at else None,
        "is_free": outcome.is_free,
        "attempt_id": str(outcome.attempt_id),
        **outcome.record,
    }
