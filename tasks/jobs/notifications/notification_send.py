"""`notification-send`: sends a notification, for schedules that do so again and again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from service.database import transaction
from service.errors import CarillonError
from service.ids import derived_id
from service.jobs.registry import job_type
from service.notifications.asking import new_send
from service.notifications.sends import check_send, send, sender_of
from service.notifications.sends_schemas import NewSendSchema
from tasks.context import JobContext


class RepeatedSendSchema(NewSendSchema):
    """What to send; when, the schedule says."""

    class Meta:
        """What the schedule says."""

        exclude = ("send_at",)


def _check(user_id: UUID, payload: Mapping[str, Any]) -> None:
    check_send(new_send(payload), sender_of(user_id))


@job_type(
    "notification-send",
    title="Notification",
    payload=RepeatedSendSchema,
    retry_limit=2,
    retry_delay=1.0,
    timeout=30,
    # What its owner may not send any more, or to nobody.
    permanent=(CarillonError,),
    check=_check,
)
def notification_send(ctx: JobContext, **body: Any) -> dict[str, Any]:
    """Sends a notification in the name of its owner, by his present rights, once however often the job runs."""
    with transaction():
        sender = sender_of(ctx.user_id)
        send_id = derived_id(ctx.job_id, "send")
        sent = send(new_send(body), sender, send_id=send_id)
    return {"sendId": str(sent.send_id), "jobs": {channel: str(job_id) for channel, job_id in sent.jobs.items()}}
