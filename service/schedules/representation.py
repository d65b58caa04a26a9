"""A schedule and a run of it as the contract writes them in JSON."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from service.clock import isoformat
from service.schedules.models import Schedule, ScheduleRun


def schedule_json(schedule: Schedule, coming: Iterable[datetime], viewer_id: UUID) -> dict[str, Any]:
    """The schedule with its coming times, for somebody who may see it."""
    return {
        "id": str(schedule.id),
        "userId": str(schedule.user_id),
        "name": schedule.name,
        "type": schedule.type,
        "payload": schedule.shown_payload(viewer_id),
        "options": schedule.options,
        "cron": schedule.cron,
        "intervalSeconds": schedule.interval_seconds,
        "timezone": schedule.timezone,
        "misfirePolicy": schedule.misfire_policy,
        "misfireLimit": schedule.misfire_limit,
        "overlapPolicy": schedule.overlap_policy,
        "nextRunAt": isoformat(schedule.next_run_at),
        "nextRuns": [isoformat(each) for each in coming],
        "lastRunAt": isoformat(schedule.last_run_at),
        "lastJobId": None if schedule.last_job_id is None else str(schedule.last_job_id),
        "lastError": schedule.last_error,
        "failures": schedule.failures,
        "pausedAt": isoformat(schedule.paused_at),
        "createdAt": isoformat(schedule.created_at),
        "updatedAt": isoformat(schedule.updated_at),
    }


def run_json(run: ScheduleRun) -> dict[str, Any]:
    """What became of a time of a schedule."""
    return {
        "id": str(run.id),
        "fireTime": isoformat(run.fire_time),
        "outcome": run.outcome,
        "jobId": None if run.job_id is None else str(run.job_id),
        "error": run.error,
        "createdAt": isoformat(run.created_at),
    }
