"""Who hears what: each event of a job as the notification and the webhook it becomes.

Texts and data are SQL over `job`, the row that moved, because they are written by the statement that moves it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from service.events import JobCancelled, JobCompleted, JobCreated, JobEvent, JobFailed, JobStarted
from service.jobs.registry import Notices, all_job_types
from service.settings import current_settings

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
    actions: str = "NULL::jsonb"


def _notice(name: str) -> str:
    return f"%(notices)s::jsonb -> job.type ->> '{name}'"


# Leads to what a completed job has found, where its type has a label for that.
VIEW = f"""CASE WHEN ({_notice("view")}) IS NOT NULL THEN jsonb_build_array(jsonb_build_object(
    'key', 'view', 'label', {_notice("view")}, 'kind', 'link', 'url', %(jobs_url)s::text || job.id)) END"""

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
        VIEW,
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


def notice_of(rule: Rule) -> str:
    """The title that a job's type has for what happened, as SQL; NULL where it has none."""
    return _notice(rule.notification.removeprefix("job_"))


def notices() -> dict[str, Any]:
    """What the types of jobs want said of them."""
    return {"notices": _written(tuple((kind.name, kind.notices) for kind in all_job_types() if kind.notices))}


@cache
def _written(notices: tuple[tuple[str, Notices], ...]) -> str:
    # Types come with the start of a process, and with tests.
    return json.dumps({name: asdict(each) for name, each in notices})


def _of_created() -> dict[str, Any]:
    return {**notices(), "telling_types": [kind.name for kind in all_job_types() if kind.tells_queued]}


def _of_completed() -> dict[str, Any]:
    return {**notices(), "jobs_url": f"{current_settings().public_url}/jobs/"}


# What the rules ask for beside `notices`.
PARAMETERS: dict[type[JobEvent], Callable[[], dict[str, Any]]] = {
    JobCreated: _of_created,
    JobCompleted: _of_completed,
}
