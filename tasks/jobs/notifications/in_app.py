"""`in-app-notification`: writes what was sent into inboxes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from service.jobs.registry import job_type
from service.notifications.preferences import IN_APP
from service.notifications.sending import Part, fill_inboxes
from service.notifications.sends import JOB_TYPES
from tasks.context import JobContext
from tasks.jobs.notifications.slicing import HOW_IT_RUNS, PartSchema, check_part, count_of, dealt_with_before, part_of


@job_type(JOB_TYPES[IN_APP], title="In-app notification", payload=PartSchema, check=check_part, **HOW_IT_RUNS)
def in_app_notification(ctx: JobContext, *, send_id: UUID, after: UUID, until: UUID) -> dict[str, Any]:
    """Writes a notification into the inboxes of its recipients, a thousand at a time, each once."""
    part = part_of(send_id, IN_APP, after, until)
    if (ended := dealt_with_before(ctx, part)) is not None:
        return ended
    return _fill(ctx, part)


def _fill(ctx: JobContext, part: Part) -> dict[str, Any]:
    total = count_of(part)
    recipients = delivered = 0
    for place in fill_inboxes(part):
        recipients, delivered = place.recipients, place.delivered
        ctx.progress(recipients, max(total, recipients), f"{recipients} of {max(total, recipients)} recipients")
    return {"recipients": recipients, "delivered": delivered, "suppressed": recipients - delivered}
