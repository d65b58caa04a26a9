"""The messages to leave by a channel: the rows are the outbox, claimed with a lease and tried again when they fail.

`(id, attempts)` is the fence: a sender that was away for longer than its lease records nothing. A pending message
whose `next_attempt_at` is null belongs to the job that planned it; all others are the outbox's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from service.clock import utcnow
from service.database import Row, after_commit, fetch_all, fetch_one, transaction
from service.ids import new_id
from service.notifications import providers
from service.notifications.models import ChannelMessage
from service.queue import wake
from service.settings import current_settings

log = structlog.get_logger(__name__)

EMAIL, WHATSAPP, PUSH = "email", "whatsapp", "push"
OUTSIDE = (EMAIL, WHATSAPP, PUSH)
SEND_TASK = "tasks.delivery.send_messages"

# Longer than the slowest conversation with a mail server: some ten exchanges of at most 10 s each.
LEASE = timedelta(minutes=3)
# The wait after each failure, in units of the setting MESSAGE_RETRY_SECONDS; the failure that has none is the last.
RETRY_AFTER = (1, 5, 30, 120)
MAXIMUM_ATTEMPTS = len(RETRY_AFTER) + 1
# What the attempts of its job may have spent of a message before the outbox has it.
ATTEMPTS_OF_JOB = 3
ERROR_LENGTH = 500


class MessageObsolete(Exception):
    """What the message was about is no more, so it is not sent; `reason` is a stable word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class DueMessage:
    """A message that this process has claimed; `attempts` counts the one under way."""

    id: UUID
    user_id: UUID
    channel: str
    template: str
    data: Mapping[str, Any]
    attempts: int
    created_at: datetime
    organization_id: UUID | None = None
    send_id: UUID | None = None
    notification_type: str | None = None

    @property
    def outbox_attempts(self) -> int:
        """How many of the attempts count where the outbox gives up."""
        return self.attempts if self.send_id is None else max(self.attempts - ATTEMPTS_OF_JOB, 1)


def queue_message(user_id: UUID, channel: str, template: str, data: Mapping[str, Any]) -> UUID:
    """Have a message sent to a user as soon as the present transaction has committed; its id."""
    message_id = new_id()
    with transaction() as session:
        session.add(ChannelMessage(id=message_id, user_id=user_id, channel=channel, template=template, data=dict(data)))
        after_commit(lambda: wake(SEND_TASK))
    return message_id


def messages_are_due() -> bool:
    """Whether a sender would find anything to claim."""
    with transaction():
        row = fetch_one(
            """
            SELECT EXISTS (SELECT FROM channel_messages
                WHERE status IN ('pending', 'sending') AND channel = ANY(ARRAY['email', 'whatsapp', 'push'])
                    AND next_attempt_at <= %(now)s) AS due
            """,
            {"now": utcnow()},
        )
    return bool(row and row["due"])


_MAXIMUM = f"({MAXIMUM_ATTEMPTS} + CASE WHEN send_id IS NULL THEN 0 ELSE {ATTEMPTS_OF_JOB} END)"

ABANDON = f"""
UPDATE channel_messages SET status = 'failed', next_attempt_at = NULL, error = 'The sender died in the last attempt.'
WHERE status = 'sending' AND channel = %(channel)s AND next_attempt_at <= %(now)s AND attempts >= {_MAXIMUM}
"""

_CLAIMED = """
UPDATE channel_messages AS message
SET status = 'sending', attempts = attempts + 1, next_attempt_at = %(lease)s
FROM due WHERE message.id = due.id
RETURNING message.id::text, message.user_id::text, message.channel, message.template, message.data::text AS data,
    message.attempts, message.created_at, message.organization_id::text, message.send_id::text,
    message.notification_type
"""

# A pending row is due when its time has come, a sending one when the lease of its sender has run out.
CLAIM = f"""
WITH due AS (
    SELECT id FROM channel_messages
    WHERE status IN ('pending', 'sending') AND channel = %(channel)s AND next_attempt_at <= %(now)s
        AND attempts < {_MAXIMUM}
    ORDER BY next_attempt_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
{_CLAIMED}
"""

CLAIM_ONE = f"""
WITH due AS (SELECT id FROM channel_messages WHERE id = %(id)s AND status = 'pending' FOR UPDATE SKIP LOCKED)
{_CLAIMED}
"""


def claim_due(limit: int, channel: str = EMAIL) -> list[DueMessage]:
    """Up to `limit` messages of a channel that are due, now `sending` for as long as their lease lasts."""
    now = utcnow()
    with transaction():
        rows = fetch_all(CLAIM, {"channel": channel, "now": now, "lease": now + LEASE, "limit": limit})
    return [_due(row) for row in rows]


def claim_pending(message_id: UUID) -> DueMessage | None:
    """This message for the job that planned it, whenever it is due; None where somebody else has it or it has ended."""
    with transaction(is_single=True):
        row = fetch_one(CLAIM_ONE, {"id": str(message_id), "lease": utcnow() + LEASE})
    return None if row is None else _due(row)


def _due(row: Row) -> DueMessage:
    return DueMessage(
        id=UUID(row["id"]),
        user_id=UUID(row["user_id"]),
        channel=row["channel"],
        template=row["template"],
        data=json.loads(row["data"]),
        attempts=row["attempts"],
        created_at=row["created_at"],
        organization_id=None if row["organization_id"] is None else UUID(row["organization_id"]),
        send_id=None if row["send_id"] is None else UUID(row["send_id"]),
        notification_type=row["notification_type"],
    )


# What was never handed over had no provider; what went has no error any more.
RECORD = """
UPDATE channel_messages
SET status = %(status)s, reason = %(reason)s, next_attempt_at = %(next_attempt_at)s, error = %(error)s,
    provider = coalesce(%(provider)s, provider), provider_id = coalesce(%(provider_id)s, provider_id),
    address = coalesce(%(address)s, address), sent_at = %(sent_at)s
WHERE id = %(id)s AND attempts = %(attempts)s AND status = 'sending'
"""


def record_sent(message: DueMessage, sent: providers.Sent, address: str | None = None) -> None:
    """Note that a message has left, by whom, and by which name he knows it."""
    _record(message, "sent", provider=sent.provider, provider_id=sent.provider_id, address=address, sent_at=utcnow())


def record_failed(message: DueMessage, error: str) -> None:
    """Note why a message has not left: it is tried again by the outbox, unless this was the last attempt."""
    if message.outbox_attempts >= MAXIMUM_ATTEMPTS:
        _record(message, "failed", error=error)
    else:
        _record(message, "pending", error=error, next_attempt_at=utcnow() + _wait(message.outbox_attempts))


def record_refused(message: DueMessage, reason: str, error: str, *, was_sent: bool = True) -> None:
    """Note that a message will never leave: refused by whom it was given to, or (not `was_sent`) kept back by us."""
    _record(message, "failed" if was_sent else "suppressed", reason=reason, error=error)


def record_kept(message: DueMessage, error: str) -> None:
    """Give a message back to the job that planned it."""
    _record(message, "pending", error=error)


def _wait(failures: int) -> timedelta:
    return timedelta(seconds=current_settings().message_retry_seconds * RETRY_AFTER[failures - 1])


def _record(message: DueMessage, status: str, **known: Any) -> None:
    error = known.pop("error", None)
    with transaction(is_single=True):
        fetch_all(
            RECORD,
            {
                "id": str(message.id),
                "attempts": message.attempts,
                "status": status,
                "error": None if error is None else error.replace("\0", "")[:ERROR_LENGTH],
                **dict.fromkeys(("reason", "next_attempt_at", "provider", "provider_id", "address", "sent_at")),
                **known,
            },
        )


HAND_OVER = """
UPDATE channel_messages SET next_attempt_at = %(at)s
WHERE id = ANY(%(ids)s::uuid[]) AND status = 'pending' AND next_attempt_at IS NULL
"""

CALL_OFF = """
UPDATE channel_messages SET status = 'suppressed', reason = 'cancelled', next_attempt_at = NULL
WHERE id = ANY(%(ids)s::uuid[]) AND status = 'pending'
"""


def hand_over(message_ids: list[UUID], *, is_away: bool) -> None:
    """Leave what is still pending to the outbox: at once, or after its first wait where the provider `is_away`."""
    at = utcnow() + (_wait(1) if is_away else timedelta())
    with transaction():
        fetch_all(HAND_OVER, {"ids": _array(message_ids), "at": at})
        if not is_away:
            after_commit(lambda: wake(SEND_TASK))


def call_off(message_ids: list[UUID]) -> None:
    """Have what is still pending never leave."""
    with transaction():
        fetch_all(CALL_OFF, {"ids": _array(message_ids)})


def _array(ids: list[UUID]) -> str:
    """Ids in PostgreSQL's own notation: psycopg2 would send a list of texts."""
    return "{" + ",".join(str(each) for each in ids) + "}"


def send_due_messages(channel: str = EMAIL) -> int:
    """Send messages of a channel until none is due; how many have left.

    One at a time, for a lease to begin with its conversation. Several processes share the work.
    """
    with transaction():
        fetch_all(ABANDON, {"channel": channel, "now": utcnow()})
    sent = 0
    while claimed := claim_due(1, channel):
        sent += _send(claimed[0])
    return sent


def _send(message: DueMessage) -> bool:
    try:
        return deliver(message)
    except providers.Away as error:
        log.warning("message_postponed", message_id=str(message.id), attempt=message.attempts, error=str(error))
        record_failed(message, str(error))
    except Exception as error:
        # One broken message must not keep the others waiting.
        log.exception("message_broken", message_id=str(message.id))
        record_failed(message, type(error).__name__)
    return False


def deliver(message: DueMessage, keep_trying: Callable[[Callable[[], None]], None] = lambda note: note()) -> bool:
    """Hand a claimed message to the providers of its channel and note what came of it; whether it left.

    `keep_trying` has to see to it that what has left is noted, though the database be away for a while. Raises Away,
    and whatever wording the message raises: then nothing is noted.
    """
    # Here: who words a message needs the rooms it is about, and they queue messages.
    from service.notifications.composing import compose

    try:
        letter = compose(message)
        sent = providers.send(message.channel, letter)
    except MessageObsolete as error:
        record_refused(message, error.reason, str(error), was_sent=False)
    except providers.Refused as refusal:
        record_refused(message, refusal.reason, str(refusal))
    else:
        keep_trying(lambda: record_sent(message, sent, letter.to))
        return True
    return False
