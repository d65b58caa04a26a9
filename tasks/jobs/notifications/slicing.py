"""What the jobs of all channels share: a large audience is cut into slices, a slice is sent message by message."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from marshmallow import Schema, fields

from service.accounts.models import User
from service.database import transaction
from service.errors import CarillonError
from service.jobs.errors import JobCancelled, WorkerStopping
from service.notifications.audience import FIRST, LAST, count_recipients
from service.notifications.channel_messages import call_off, claim_pending, deliver, hand_over, record_kept
from service.notifications.models import NotificationSend
from service.notifications.providers import Away
from service.notifications.sending import (
    SLICE,
    Part,
    SendNotFound,
    is_expired,
    outcome_of,
    plan_messages,
    read_send,
    submit_slices,
)
from service.notifications.sends import Sender, owner_of
from tasks.context import JobContext
from tasks.lease import until_written
from tasks.outcome import TIMEOUTS

# S3: three attempts, after 1 and 2 s, of 30 s each.
HOW_IT_RUNS: Mapping[str, Any] = {
    "retry_limit": 2,
    "retry_delay": 1.0,
    "timeout": 30,
    # A send that was deleted, a template that cannot speak any more.
    "permanent": (CarillonError,),
}
# What is not sent by then is the outbox's: the conversation under way has the rest of the job's time.
SENDING_SECONDS = 15.0


class PartSchema(Schema):
    """Which recipients of which send: those with ids above `after` up to and with `until`."""

    send_id = fields.UUID(data_key="sendId", required=True)
    after = fields.UUID(load_default=FIRST, metadata={"description": "The platform itself cuts an audience"})
    until = fields.UUID(load_default=LAST)


def check_part(user_id: UUID, payload: Mapping[str, Any]) -> None:
    """Raise SendNotFound for somebody else's send."""
    with transaction() as session:
        send, user = session.get(NotificationSend, payload["send_id"]), session.get(User, user_id)
        if send is None or user is None or send.organization_id != user.organization_id:
            raise SendNotFound
        # Nobody's are the platform's own and those of senders who have been deleted.
        if user_id != (send.sender_id or owner_of(Sender(organization_id=send.organization_id))):
            raise SendNotFound


def part_of(send_id: UUID, channel: str, after: UUID, until: UUID) -> Part:
    """What a job of a channel is about; raises SendNotFound."""
    send = read_send(send_id)
    if channel not in send.channels:
        raise SendNotFound
    return Part(send=send, channel=channel, after=after, until=until)


def count_of(part: Part, at_most: int = 2**31) -> int:
    """The recipients of a part, as they are now."""
    return count_recipients(part.send.organization_id, part.audience, part.after, part.until, at_most)


def dealt_with_before(ctx: JobContext, part: Part) -> dict[str, Any] | None:
    """The result of a job that has nothing to send itself: it comes too late, or others have a slice each."""
    if part.send.cancelled_at is not None:
        return {"recipients": 0, "cancelled": True}
    if is_expired(part.send):
        return {"recipients": 0, "expired": True}
    if count_of(part, SLICE[part.channel] + 1) <= SLICE[part.channel]:
        return None
    recipients = count_of(part)
    # By now the platform's own may be another administrator's.
    owner_id = owner_of(Sender(organization_id=part.send.organization_id, user_id=part.send.sender_id))
    jobs = submit_slices(part, owner_id, ctx.job_id)
    ctx.log(f"{recipients} recipients: {jobs} jobs have a slice each.")
    return {"recipients": recipients, "jobs": jobs}


def send_part(ctx: JobContext, part: Part) -> dict[str, Any]:
    """Send to the recipients of a part by a channel other than the inbox; raises what has the job tried again."""
    if (ended := dealt_with_before(ctx, part)) is not None:
        return ended
    waiting = plan_messages(part)
    try:
        try:
            _send(ctx, waiting)
        except (Away, *TIMEOUTS) as error:
            if not ctx.is_last_attempt:
                raise
            _leave_to_outbox(ctx, waiting, error)
    except JobCancelled:
        call_off(waiting)
        raise
    return outcome_of(part)


def _leave_to_outbox(ctx: JobContext, message_ids: list[UUID], error: Exception) -> None:
    # What was cancelled meanwhile is nobody's to send.
    ctx.check_cancelled()
    # The lease of a message whose provider does not answer says when the outbox has that one too.
    why = str(error) if isinstance(error, Away) else "a provider does not answer."
    ctx.log(f"Left to the outbox: {why}", "warning")
    hand_over(message_ids, is_away=True)


def _send(ctx: JobContext, message_ids: list[UUID]) -> None:
    ends_at = time.monotonic() + SENDING_SECONDS
    trouble: Exception | None = None
    for done, message_id in enumerate(message_ids, 1):
        if time.monotonic() > ends_at:
            hand_over(message_ids, is_away=False)
            break
        if ctx.stopping:
            raise WorkerStopping
        ctx.check_cancelled()
        trouble = _send_one(message_id) or trouble
        ctx.progress(done, len(message_ids), f"{done} of {len(message_ids)} recipients")
    if trouble is not None:
        raise trouble


def _send_one(message_id: UUID) -> Exception | None:
    """Send a message; what went wrong with it alone, so that it keeps nobody waiting. Raises Away."""
    message = claim_pending(message_id)
    if message is None:
        return None
    try:
        deliver(message, keep_trying=until_written)
    except Away as error:
        record_kept(message, str(error))
        raise
    except TIMEOUTS:
        # It may have left: its lease says when the outbox takes it for one that has not.
        raise
    except Exception as error:
        record_kept(message, type(error).__name__)
        return error
    return None
