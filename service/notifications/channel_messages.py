"""The messages to leave by a channel: the rows are the outbox, claimed with a lease and tried again when they fail.

`(id, attempts)` is the fence: a sender that was away for longer than its lease records nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog

from service.clock import utcnow
from service.database import after_commit, fetch_all, fetch_one, transaction
from service.notifications.mail import MailError, MessageObsolete, deliver, render
from service.notifications.models import ChannelMessage
from service.queue import wake

log = structlog.get_logger(__name__)

EMAIL = "email"
SEND_TASK = "tasks.delivery.send_email"

# Longer than the slowest conversation with a mail server: some ten exchanges of at most 10 s each.
LEASE = timedelta(minutes=3)
# The wait after each failure; the failure that has none is the last.
RETRY_AFTER = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2))
MAXIMUM_ATTEMPTS = len(RETRY_AFTER) + 1
ERROR_LENGTH = 500


@dataclass(frozen=True, slots=True)
class DueMessage:
    """A message that this process has claimed; `attempts` counts the one under way."""

    id: UUID
    user_id: UUID
    template: str
    data: Mapping[str, Any]
    attempts: int


def queue_message(user_id: UUID, channel: str, template: str, data: Mapping[str, Any]) -> None:
    """Have a message sent to a user as soon as the present transaction has committed."""
    with transaction() as session:
        session.add(ChannelMessage(user_id=user_id, channel=channel, template=template, data=dict(data)))
        after_commit(lambda: wake(SEND_TASK))


def messages_are_due() -> bool:
    """Whether a sender would find anything to claim."""
    with transaction():
        row = fetch_one(
            """
            SELECT EXISTS (SELECT FROM channel_messages
                WHERE status IN ('pending', 'sending') AND channel = %(channel)s AND next_attempt_at <= %(now)s) AS due
            """,
            {"channel": EMAIL, "now": utcnow()},
        )
    return bool(row and row["due"])


ABANDON = """
UPDATE channel_messages SET status = 'failed', next_attempt_at = NULL, error = 'The sender died in the last attempt.'
WHERE status = 'sending' AND next_attempt_at <= %(now)s AND attempts >= %(maximum)s
"""

# A pending row is due when its time has come, a sending one when the lease of its sender has run out.
CLAIM = """
WITH due AS (
    SELECT id FROM channel_messages
    WHERE status IN ('pending', 'sending') AND channel = %(channel)s AND next_attempt_at <= %(now)s
        AND attempts < %(maximum)s
    ORDER BY next_attempt_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
UPDATE channel_messages AS message
SET status = 'sending', attempts = attempts + 1, next_attempt_at = %(lease)s
FROM due WHERE message.id = due.id
RETURNING message.id::text, message.user_id::text, message.template, message.data::text AS data, message.attempts
"""


def claim_due(limit: int) -> list[DueMessage]:
    """Up to `limit` e-mails that are due, now `sending` for as long as their lease lasts."""
    now = utcnow()
    with transaction():
        fetch_all(ABANDON, {"now": now, "maximum": MAXIMUM_ATTEMPTS})
        rows = fetch_all(
            CLAIM,
            {"channel": EMAIL, "now": now, "lease": now + LEASE, "maximum": MAXIMUM_ATTEMPTS, "limit": limit},
        )
    return [
        DueMessage(UUID(row["id"]), UUID(row["user_id"]), row["template"], json.loads(row["data"]), row["attempts"])
        for row in rows
    ]


RECORD = """
UPDATE channel_messages
SET status = %(status)s, next_attempt_at = %(next_attempt_at)s, error = %(error)s, provider_id = %(provider_id)s
WHERE id = %(id)s AND attempts = %(attempts)s AND status = 'sending'
"""


def record_sent(message: DueMessage, provider_id: str | None) -> None:
    """Note that a message has left; `provider_id` names it to whoever carries it on."""
    _record(message, "sent", provider_id=provider_id)


def record_failed(message: DueMessage, error: str, *, is_final: bool = False) -> None:
    """Note why a message has not left: it is tried again, unless this was the last attempt or `is_final`."""
    if is_final or message.attempts >= MAXIMUM_ATTEMPTS:
        _record(message, "failed", error=error)
    else:
        _record(message, "pending", error=error, wait=RETRY_AFTER[message.attempts - 1])


def _record(
    message: DueMessage,
    status: str,
    *,
    error: str | None = None,
    provider_id: str | None = None,
    wait: timedelta | None = None,
) -> None:
    with transaction():
        fetch_all(
            RECORD,
            {
                "id": str(message.id),
                "attempts": message.attempts,
                "status": status,
                "next_attempt_at": None if wait is None else utcnow() + wait,
                "error": None if error is None else error.replace("\0", "")[:ERROR_LENGTH],
                "provider_id": provider_id,
            },
        )


def send_due_messages() -> int:
    """Send e-mails until none is due; how many have left.

    One at a time, for a lease to begin with its conversation. Several processes share the work.
    """
    sent = 0
    while claimed := claim_due(1):
        sent += _send(claimed[0])
    return sent


def _send(message: DueMessage) -> bool:
    try:
        provider_id = deliver(render(message))
    except MessageObsolete as error:
        record_failed(message, str(error), is_final=True)
    except MailError as error:
        log.warning("mail_failed", message_id=str(message.id), attempt=message.attempts, error=str(error))
        record_failed(message, str(error))
    except Exception as error:
        # One broken message must not keep the others waiting.
        log.exception("mail_broken", message_id=str(message.id))
        record_failed(message, type(error).__name__)
    else:
        record_sent(message, provider_id)
        return True
    return False
