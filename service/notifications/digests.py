"""Messages that waited for their hour: one that waited alone leaves as it is, several leave as one digest.

Held are messages of quiet hours, of hourly and daily digests, and those of jobs for the few seconds in which a burst of
them becomes one ('burst').
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import structlog

from service.clock import utcnow
from service.database import Row, after_commit, fetch_all, fetch_one, transaction
from service.notifications.channel_messages import SEND_TASK
from service.queue import wake
from service.settings import current_settings

log = structlog.get_logger(__name__)

BURST = "burst"
# Users in one transaction.
BATCH = 200
# A digest shows so many, failures first, and says how many more there are.
MAXIMUM_ITEMS = 50


def messages_are_ripe() -> bool:
    """Whether the time of a held message has come."""
    with transaction():
        row = fetch_one(
            """
            SELECT EXISTS (SELECT FROM channel_messages WHERE status = 'held' AND next_attempt_at <= %(now)s) AS ripe
            """,
            {"now": utcnow()},
        )
    return bool(row and row["ripe"])


# Whoever holds a user gathers for him. Jobs that end meanwhile are not in the way: a message refers to its user with a
# weaker lock.
CLAIM = """
SELECT id::text FROM users
WHERE id IN (SELECT DISTINCT user_id FROM channel_messages WHERE status = 'held' AND next_attempt_at <= %(now)s
    LIMIT %(batch)s)
ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
"""

EXPIRE = """
UPDATE channel_messages SET status = 'suppressed', reason = 'expired', next_attempt_at = NULL
WHERE id = ANY(ARRAY(
    SELECT message.id FROM channel_messages AS message JOIN notification_sends AS send ON send.id = message.send_id
    WHERE message.status = 'held' AND message.next_attempt_at <= %(now)s
        AND message.user_id = ANY(string_to_array(%(user_ids)s, ',')::uuid[]) AND send.expires_at <= %(now)s
    FOR UPDATE OF message SKIP LOCKED))
"""

# What is due takes along what is still held as part of a burst: it would follow within seconds. Rows that somebody
# holds, who mutes them perhaps, are left to the next tick: to wait for them could be to wait for each other. The
# planner, who does not know how few rows are due, is kept from reading whole tables: by the array and the offset.
GATHER = """
WITH member AS (
    SELECT message.id, message.user_id, message.channel, message.organization_id, message.notification_type,
        message.digest, message.next_attempt_at <= %(now)s AS is_due, message.template = 'job_failed' AS is_failure,
        jsonb_build_object(
            'title', coalesce(send.title, message.data ->> 'subject', message.data ->> 'title', ''),
            'message', coalesce(send.message, message.data ->> 'text', message.data ->> 'message', ''),
            'createdAt', to_char(message.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) AS item
    FROM channel_messages AS message LEFT JOIN LATERAL (
        SELECT title, message FROM notification_sends WHERE id = message.send_id OFFSET 0) AS send ON true
    WHERE message.status = 'held' AND message.user_id = ANY(string_to_array(%(user_ids)s, ',')::uuid[])
        AND message.next_attempt_at <= %(soon)s AND (message.next_attempt_at <= %(now)s OR message.digest = 'burst')
    FOR UPDATE OF message SKIP LOCKED),
ranked AS (
    SELECT *, row_number() OVER (PARTITION BY user_id, channel ORDER BY is_failure DESC, id) AS rank FROM member),
mail AS (
    SELECT user_id, channel, count(*) AS members, derived_id((array_agg(id ORDER BY id))[1], 'digest') AS id,
        (array_agg(organization_id))[1] AS organization_id,
        CASE WHEN count(DISTINCT coalesce(digest, '')) = 1 THEN min(digest) END AS digest,
        CASE WHEN count(DISTINCT coalesce(notification_type, '')) = 1 THEN min(notification_type) END AS type,
        jsonb_agg(item ORDER BY rank) FILTER (WHERE rank <= %(items)s) AS items
    FROM ranked GROUP BY user_id, channel HAVING bool_or(is_due)),
digest AS (
    INSERT INTO channel_messages (id, organization_id, user_id, channel, notification_type, template, data, status,
        digest, attempts, created_at, next_attempt_at)
    SELECT id, organization_id, user_id, channel, type, 'digest',
        jsonb_build_object('period', CASE WHEN digest <> 'burst' THEN digest END, 'count', members,
            'more', members - jsonb_array_length(items), 'items', items),
        'pending', digest, 0, %(now)s, %(now)s
    FROM mail WHERE members > 1
    RETURNING id)
UPDATE channel_messages AS message
SET status = CASE mail.members WHEN 1 THEN 'pending' ELSE 'digested' END,
    reason = NULL,
    digest_id = CASE WHEN mail.members > 1 THEN mail.id END,
    next_attempt_at = CASE mail.members WHEN 1 THEN %(now)s::timestamptz END
FROM member JOIN mail USING (user_id, channel)
WHERE message.id = member.id AND message.id = ANY(ARRAY(SELECT id FROM member))
RETURNING message.id::text, mail.id::text AS mail_id
"""


def release_held() -> int:
    """Release the held messages of some users whose time has come; how many messages that were."""
    with transaction():
        users = fetch_all(CLAIM, {"now": utcnow(), "batch": BATCH})
        if not users:
            return 0
        # A statement of its own: only now is it seen what others have released before they let go of these users.
        released = _gather([row["id"] for row in users])
        if released:
            after_commit(lambda: wake(SEND_TASK))
            log.info("messages_released", messages=len(released), mails=len({row["mail_id"] for row in released}))
    return len(released)


def _gather(user_ids: Sequence[str]) -> Sequence[Row]:
    now = utcnow()
    soon = now + timedelta(seconds=current_settings().email_gather_seconds)
    fetch_all(EXPIRE, {"now": now, "user_ids": ",".join(user_ids)})
    return fetch_all(GATHER, {"now": now, "soon": soon, "user_ids": ",".join(user_ids), "items": MAXIMUM_ITEMS})
