"""`push-notification`: sends what was sent to an audience as pushes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from service.jobs.registry import job_type
from service.notifications.preferences import PUSH
from service.notifications.sends import JOB_TYPES
from tasks.context import JobContext
from tasks.jobs.notifications.slicing import HOW_IT_RUNS, PartSchema, check_part, part_of, send_part


@job_type(JOB_TYPES[PUSH], title="Push notification", payload=PartSchema, check=check_part, **HOW_IT_RUNS)
def push_notification(ctx: JobContext, *, send_id: UUID, after: UUID, until: UUID) -> dict[str, Any]:
    """Sends a notification to the devices of its recipients, each once."""
    return send_part(ctx, part_of(send_id, PUSH, after, until))
