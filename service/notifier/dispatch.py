"""From domain events to everything that follows: a plan in the transaction, a push after it.

The plan is rows, so it stands or falls with what happened. The push (event log, wake-ups) may be lost with the process
and is made good by the housekeeping ticks, or the event log says plainly that something is missing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from service.clock import isoformat, utcnow
from service.database import after_commit, fetch_one
from service.events import (
    JobCancelled,
    JobCompleted,
    JobCreated,
    JobEvent,
    JobFailed,
    JobProgressed,
    JobQueued,
    JobRetrying,
    JobStarted,
    NotificationDeleted,
    NotificationEvent,
    NotificationRead,
    NotificationUnread,
    subscribe,
)
from service.jobs.representation import job_json
from service.notifier.channels.base import channels
from service.notifier.rules import CATEGORY, JOB_STATUS, RULES, tells_inbox
from service.realtime.log import Entry, append

EVENT_COLUMNS = """id uuid, at timestamptz, organization_id uuid, user_id uuid, job_id uuid, preference text,
    notification text, category text, title text, message text, data jsonb, webhook text, webhook_payload jsonb"""


def connect_notifier() -> None:
    """Have the notifier hear of everything; called once per process by the application."""
    subscribe(
        on_job_events,
        JobCreated,
        JobQueued,
        JobStarted,
        JobRetrying,
        JobCompleted,
        JobFailed,
        JobCancelled,
    )
    subscribe(on_progress, JobProgressed)
    subscribe(on_notification_events, NotificationRead, NotificationUnread, NotificationDeleted)


@cache
def _plan() -> str:
    """One statement for all channels: a round trip an event, however many channels there are."""
    plans = ", ".join(f"{name} AS ({channel.PLAN})" for name, channel in channels().items())
    results = ", ".join(f"(SELECT json_agg({name}) FROM {name})::text AS {name}" for name in channels())
    return f"""
        WITH event AS (SELECT * FROM jsonb_to_recordset(%(events)s) AS event({EVENT_COLUMNS})), {plans}
        SELECT {results}"""


def on_job_events(events: Sequence[JobEvent]) -> None:
    """Plan notifications and deliveries of what happened to jobs, and push it all once it stands."""
    now = isoformat(utcnow())
    entries: list[Entry] = [(str(event.job["user_id"]), _entry(event, now)) for event in events]
    records = [record for event in events if (record := _record(event, now)) is not None]
    planned: dict[str, list[dict[str, Any]]] = {}
    if records:
        row = fetch_one(_plan(), {"events": json.dumps(records)})
        assert row is not None
        planned = {name: json.loads(rows) for name, rows in row.items() if rows is not None}

    def push() -> None:
        for name, rows in planned.items():
            entries.extend(channels()[name].after_commit(rows))
        append(entries)

    after_commit(push)


def _entry(event: JobEvent, now: str | None) -> dict[str, Any]:
    job = job_json(event.job)
    return {"event": type(event).__name__, "at": now, "userId": str(event.job["user_id"]), "job": job}


def _record(event: JobEvent, now: str | None) -> dict[str, Any] | None:
    rule = RULES.get(type(event))
    if rule is None:
        return None
    job = event.job
    about = {"id": str(job["id"]), "jobname": job["name"], "userId": str(job["user_id"])}
    return {
        "id": str(event.id),
        "at": now,
        "organization_id": str(job["organization_id"]),
        "user_id": str(job["user_id"]),
        "job_id": str(job["id"]),
        "preference": JOB_STATUS,
        "notification": rule.notification if tells_inbox(event, rule) else None,
        "category": CATEGORY,
        "title": f"{job['name']} {rule.title.lower()}",
        "message": rule.message(job),
        "data": {"jobId": str(job["id"]), "jobType": job["type"]},
        "webhook": rule.webhook,
        "webhook_payload": {
            "type": f"job.{rule.webhook}",
            "timestamp": now,
            "data": {**about, **rule.webhook_data(job)},
        },
    }


def on_progress(events: Sequence[JobProgressed]) -> None:
    """Show how far jobs have come."""
    append(
        [
            (
                str(event.job["user_id"]),
                {
                    "event": "JobProgressed",
                    "userId": str(event.job["user_id"]),
                    "job": {
                        "id": str(event.job["id"]),
                        "name": event.job["name"],
                        "status": event.job["status"],
                    },
                    "progress": event.progress,
                },
            )
            for event in events
        ]
    )


def on_notification_events(events: Sequence[NotificationEvent]) -> None:
    """Tell a user's other devices what was read or deleted on one."""
    entries: list[Entry] = [
        (
            str(event.user_id),
            {
                "event": type(event).__name__,
                "userId": str(event.user_id),
                "notificationId": None if event.notification_id is None else str(event.notification_id),
            },
        )
        for event in events
    ]
    after_commit(lambda: append(entries))
