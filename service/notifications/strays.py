"""Messages that nobody would send any more: what is left of cancelled sends, and what its job ended without.

A message that belongs to the job that planned it waits for that job alone. Where the job was killed, failed for good or
is gone, nobody else would end it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import structlog

from service.clock import utcnow
from service.database import fetch_all, transaction
from service.jobs.states import FINAL

log = structlog.get_logger(__name__)

BATCH = 500
# A job that has just been submitted, or is just ending, is given so long.
YOUNG = timedelta(minutes=1)
# Whatever was with a provider when its send was cancelled has come back by then, or is the outbox's, which asks.
AFTER_CANCEL = timedelta(hours=1)

CANCELLED = """
UPDATE channel_messages SET status = 'suppressed', reason = 'cancelled', next_attempt_at = NULL
WHERE id = ANY(ARRAY(
    SELECT message.id FROM notification_sends AS send JOIN channel_messages AS message ON message.send_id = send.id
    WHERE send.cancelled_at > %(since)s AND message.status IN ('pending', 'held')
    ORDER BY message.id LIMIT %(batch)s FOR UPDATE OF message SKIP LOCKED))
RETURNING id
"""

# Its jobs are those of the send and the channel, of whom one that has failed may still be replayed. The channels are
# named for the index of what is due, whose rows without a time are these.
OWNERLESS = f"""
WITH waiting AS (
    SELECT DISTINCT send_id, channel FROM channel_messages
    WHERE status = 'pending' AND channel = ANY(ARRAY['email', 'whatsapp', 'push']) AND next_attempt_at IS NULL
        AND created_at < %(before)s),
job AS (
    SELECT waiting.send_id, waiting.channel, tagged.*
    FROM waiting, LATERAL (
        SELECT type, status, discarded_at, completed_at FROM jobs
        WHERE tags @> ARRAY['send:' || waiting.send_id::text] AND array_length(tags, 1) IS NOT NULL
        -- Looked up by the index of tags, and not joined with all jobs of the type.
        OFFSET 0) AS tagged
    WHERE tagged.type = replace(waiting.channel, '_', '-') || '-notification'),
ownerless AS MATERIALIZED (
    SELECT send_id, channel,
        send.cancelled_at IS NOT NULL OR EXISTS (
            SELECT FROM job WHERE (job.send_id, job.channel) = (waiting.send_id, waiting.channel)
                AND job.status = 'cancelled') AS was_cancelled,
        coalesce(send.expires_at <= %(now)s, false) AS has_expired
    FROM waiting LEFT JOIN notification_sends AS send ON send.id = waiting.send_id
    WHERE NOT EXISTS (
        SELECT FROM job WHERE (job.send_id, job.channel) = (waiting.send_id, waiting.channel)
            AND (job.status NOT IN ({", ".join(f"'{status}'" for status in sorted(FINAL))})
                OR job.completed_at > %(before)s OR (job.status = 'failed' AND job.discarded_at IS NULL)))),
stray AS (
    SELECT message.id, was_cancelled, has_expired
    FROM ownerless JOIN channel_messages AS message USING (send_id, channel)
    WHERE message.status = 'pending' AND message.next_attempt_at IS NULL AND message.created_at < %(before)s
    ORDER BY message.id LIMIT %(batch)s FOR UPDATE OF message SKIP LOCKED)
UPDATE channel_messages AS message
SET status = CASE WHEN was_cancelled OR has_expired THEN 'suppressed' ELSE 'failed' END,
    reason = CASE WHEN was_cancelled THEN 'cancelled' WHEN has_expired THEN 'expired' END,
    error = CASE WHEN was_cancelled OR has_expired THEN message.error
        ELSE concat_ws(' ', 'Its job ended without it.', message.error) END
FROM stray WHERE message.id = stray.id
RETURNING message.id
"""


def end_strays() -> int:
    """End up to a batch of each kind; how many, of the kind of which there were more."""
    now = utcnow()
    cancelled = _end(CANCELLED, {"since": now - AFTER_CANCEL})
    ownerless = _end(OWNERLESS, {"now": now, "before": now - YOUNG})
    if cancelled or ownerless:
        log.info("stray_messages_ended", cancelled=cancelled, ownerless=ownerless)
    return max(cancelled, ownerless)


def _end(statement: str, asked: Mapping[str, Any]) -> int:
    with transaction():
        return len(fetch_all(statement, {**asked, "batch": BATCH}))
