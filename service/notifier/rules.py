"""Who hears what: each domain event of a job as the notification and the webhook it becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service.events import (
    JobCancelled,
    JobCompleted,
    JobCreated,
    JobEvent,
    JobFailed,
    JobRow,
    JobStarted,
)
from service.jobs.registry import get_job_type

# The type of preference that all news of jobs falls under (S1, default preferences).
JOB_STATUS = "job_status"
CATEGORY = "jobs"


@dataclass(frozen=True)
class Rule:
    """What one kind of event becomes; `message` tells the owner, `webhook_data` is added to `data` of the webhook."""

    notification: str | None
    title: str
    message: Callable[[JobRow], str]
    webhook: str
    webhook_data: Callable[[JobRow], dict[str, Any]]


def _nothing_more(_row: JobRow) -> dict[str, Any]:
    return {}


RULES: dict[type[JobEvent], Rule] = {
    JobCreated: Rule("job_queued", "Queued", lambda row: f"{row['name']} has been queued.", "created", _nothing_more),
    JobStarted: Rule("job_started", "Started", lambda row: f"{row['name']} has started.", "started", _nothing_more),
    JobCompleted: Rule(
        "job_completed",
        "Completed",
        lambda row: f"{row['name']} completed successfully.",
        "completed",
        lambda row: {"result": row["result"]},
    ),
    JobFailed: Rule(
        "job_failed",
        "Failed",
        lambda row: f"{row['name']} failed: {row['error']['message']}",
        "failed",
        lambda row: {"error": row["error"]["message"], "errorCode": row["error"]["code"]},
    ),
    JobCancelled: Rule(
        "job_cancelled",
        "Cancelled",
        lambda row: f"{row['name']} was cancelled" + (f": {row['cancel_reason']}" if row["cancel_reason"] else "."),
        "cancelled",
        lambda row: {"reason": row["cancel_reason"]},
    ),
}


def tells_inbox(event: JobEvent, rule: Rule) -> bool:
    """Whether the inbox hears of the event: a retried start tells nothing new, a queued job only where asked."""
    if isinstance(event, JobCreated):
        return get_job_type(event.job["type"]).tells_queued
    if isinstance(event, JobStarted):
        return bool(event.job["attempt"] == 1)
    return rule.notification is not None
