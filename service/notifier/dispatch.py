"""From domain events to everything that follows: a plan in the statement that makes them true, a push after it.

The plan is rows, so it stands or falls with what happened. The push (event log, wake-ups) may be lost with the process
and is made good by the housekeeping ticks, or the event log says plainly that something is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from service.clock import isoformat, utcnow
from service.database import after_commit
from service.events import (
    JobCancelled,
    JobCompleted,
    JobCreated,
    JobEvent,
    JobFailed,
    JobPostponed,
    JobProgressed,
    JobQueued,
    JobRetrying,
    JobRow,
    JobStarted,
    NotificationDeleted,
    NotificationEvent,
    NotificationRead,
    NotificationReturned,
    NotificationShown,
    NotificationUnread,
    NotificationUpdated,
    Plan,
    SendResolved,
    WebhookDisabled,
    WebhookFailing,
    plan_with,
    subscribe,
)
from service.jobs.representation import job_json
from service.jobs.states import QUEUED
from service.notifier.announcements import on_sends_resolved, on_webhook_events
from service.notifier.channels.base import follow_ups, parameters, planning, plans
from service.notifier.rules import CATEGORY, JOB_STATUS, PARAMETERS, RULES, Rule, notice_of, notices
from service.queue import DISPATCH_TASK
from service.realtime import untold
from service.realtime.log import Entry, append


def connect_notifier() -> None:
    """Have the notifier hear of everything; called once per process by the application."""
    subscribe(
        on_job_events,
        JobCreated,
        JobQueued,
        JobPostponed,
        JobStarted,
        JobRetrying,
        JobCompleted,
        JobFailed,
        JobCancelled,
    )
    plan_with(plan)
    subscribe(on_progress, JobProgressed)
    subscribe(on_webhook_events, WebhookFailing, WebhookDisabled)
    subscribe(on_sends_resolved, SendResolved)
    subscribe(
        on_notification_events,
        NotificationRead,
        NotificationUnread,
        NotificationDeleted,
        NotificationUpdated,
        NotificationReturned,
    )


def plan(event_type: type[JobEvent]) -> Plan:
    """What follows an event in the statement that makes it true: the parts of all channels, however many there are."""
    rule = RULES.get(event_type)
    if rule is None:
        return _PLAN_OF_THE_REST
    return _plan(event_type, rule, planning(rule.notification))  # type: ignore[arg-type]  # a class is hashable


_PLAN_OF_THE_REST = Plan(f"untold AS ({untold.PLAN})", ("untold",), dict)


@cache
def _plan(event_type: type[JobEvent], rule: Rule, channels: tuple[str, ...]) -> Plan:
    event = f"""event AS (
        SELECT event_id(%(now)s, job.id, job.version) AS id, %(now)s::timestamptz AS at,
            job.organization_id, job.user_id, job.id AS job_id, job.name AS job_name,
            '{JOB_STATUS}' AS preference, '{rule.notification}' AS notification,
            job.notify AND {rule.tells_inbox} AS tells_inbox,
            '{CATEGORY}' AS category, coalesce({notice_of(rule)}, {rule.title}) AS title, {rule.message} AS message,
            jsonb_build_object('jobId', job.id, 'jobType', job.type) AS data, {rule.actions} AS actions,
            '{rule.webhook}' AS webhook, {rule.webhook_data} AS webhook_data
        FROM job)"""
    statements = {**plans(channels), "untold": untold.PLAN}
    parts = [f"{name} AS ({sql})" for name, sql in statements.items()]
    of_rule = PARAMETERS.get(event_type, notices)
    return Plan(", ".join([event, *parts]), tuple(statements), lambda: {**of_rule(), **parameters(channels)})


def on_job_events(events: Sequence[JobEvent]) -> None:
    """Push what happened to jobs, and what was planned for it, once it stands."""
    now = isoformat(utcnow())
    entries: list[Entry] = [(str(event.job["user_id"]), _entry(event, now)) for event in events]
    planned = events[0].planned

    def push() -> None:
        told = [entry for event in events for entry in _held.pop(str(event.job["id"]), ())] + entries
        # Here, because it then travels with the news instead of on its own.
        wakes: list[str] = [DISPATCH_TASK] if any(_is_held(event.job) for event in events) else []
        if type(events[0]) in RULES:
            follow_up = follow_ups(planned)
            told.extend(follow_up.entries)
            wakes.extend(follow_up.wakes)
        append(told, wakes, untold.by_user(planned["untold"]))

    after_commit(push)


def _is_held(job: JobRow) -> bool:
    """Whether the dispatcher has to send this job, or another one now that this one has gone on."""
    return bool(job.get("holds")) or (job["status"] == QUEUED and job["dispatched_at"] is None)


def _entry(event: JobEvent, now: str | None) -> dict[str, Any]:
    job = job_json(event.job)
    return {"event": type(event).__name__, "at": now, "userId": str(event.job["user_id"]), "job": job}


def on_progress(events: Sequence[JobProgressed]) -> None:
    """Show how far jobs have come; the last report of a job travels with its end."""
    now = isoformat(utcnow())
    entries = []
    for event in events:
        job = {"id": str(event.job["id"]), **{key: event.job[key] for key in ("type", "name", "status")}}
        user_id = str(event.job["user_id"])
        entry = (
            user_id,
            {"event": "JobProgressed", "at": now, "userId": user_id, "job": job, "progress": event.progress},
        )
        if event.is_last:
            _hold(job["id"], entry)
        else:
            entries.append(entry)
    append(entries)


# By job: what is told with the job's end. An end that is told by another process leaves it here, so it is bounded.
_held: dict[str, list[Entry]] = {}
MAXIMUM_HELD = 1_000


def _hold(job_id: str, entry: Entry) -> None:
    if len(_held) >= MAXIMUM_HELD:
        _held.clear()
    _held.setdefault(job_id, []).append(entry)


def on_notification_events(events: Sequence[NotificationEvent]) -> None:
    """Tell all devices of a user what was done to the inbox on one of them, or by time or others."""
    entries: list[Entry] = [
        (
            str(event.user_id),
            {
                "event": type(event).__name__,
                "userId": str(event.user_id),
                "notificationId": None if event.notification_id is None else str(event.notification_id),
                "inbox": event.inbox,
                **({"notification": event.notification} if isinstance(event, NotificationShown) else {}),
            },
        )
        for event in events
    ]
    to_tell = untold.note_untold(event.user_id for event in events)
    after_commit(lambda: append(entries, untold=to_tell))
