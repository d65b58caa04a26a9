"""`email-notification`: sends what was sent to an audience as mails."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from service.jobs.registry import job_type
from service.notifications.preferences import EMAIL
from service.notifications.sends import JOB_TYPES
from tasks.context import JobContext
from tasks.jobs.notifications.slicing import HOW_IT_RUNS, PartSchema, check_part, part_of, send_part


@job_type(JOB_TYPES[EMAIL], title="E-mail notification", payload=PartSchema, check=check_part, **HOW_IT_RUNS)
def email_notification(ctx: JobContext, *, send_id: UUID, after: UUID, until: UUID) -> dict[str, Any]:
    """Sends a notification to its recipients as e-mail, each once."""
    return send_part(ctx, part_of(send_id, EMAIL, after, until))
