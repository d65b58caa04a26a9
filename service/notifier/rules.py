"""Who hears what: each event of a job as the notification and the webhook it becomes.

Texts and data are SQL over `job`, the row that moved, because they are written by the statement that moves it.
"""

from __future__ import annotations

from dataclasses import dataclass

from service.events import JobCancelled, JobCompleted, JobCreated, JobEvent, JobFailed, JobStarted

# The type of preference that all news of jobs falls under (S1, default preferences).
JOB_STATUS = "job_status"
CATEGORY = "jobs"


@dataclass(frozen=True)
class Rule:
    """What one kind of event becomes; `webhook_data` is added to `data` of the webhook."""

    notification: str
    tells_inbox: str
    title: str
    message: str
    webhook: str
    webhook_data: str


RULES: dict[type[JobEvent], Rule] = {
    # Only where the type asks for it: most jobs start at once.
    JobCreated: Rule(
        "job_queued",
        "job.type = ANY(%(telling_types)s)",
        "job.name || ' queued'",
        "job.name || ' has been queued.'",
        "created",
        "'{}'::jsonb",
    ),
    # A second attempt tells nothing new.
    JobStarted: Rule(
        "job_started",
        "job.attempt = 1",
        "job.name || ' started'",
        "job.name || ' has started.'",
        "started",
        "'{}'::jsonb",
    ),
    JobCompleted: Rule(
        "job_completed",
        "true",
        "job.name || ' completed'",
        "job.name || ' completed successfully.'",
        "completed",
        # A sensitive job's result is for its owner to fetch.
        "jsonb_build_object('result', CASE WHEN NOT job.sensitive THEN job.result END)",
    ),
    JobFailed: Rule(
        "job_failed",
        "true",
        "job.name || ' failed'",
        "job.name || ' failed: ' || (job.error ->> 'message')",
        "failed",
        "jsonb_build_object('error', job.error ->> 'message', 'errorCode', job.error ->> 'code')",
    ),
    JobCancelled: Rule(
        "job_cancelled",
        "true",
        "job.name || ' cancelled'",
        "job.name || ' was cancelled' || coalesce(': ' || job.cancel_reason, '.')",
        "cancelled",
        "jsonb_build_object('reason', job.cancel_reason)",
    ),
}
