"""What the AsyncAPI document shows: an entry of the event log for each domain event, and what else there is."""

from __future__ import annotations

from typing import Any

from service.realtime.vocabulary import Entry

JOB_ID = "01999c2e-8a00-7c3e-9d41-5b0c1f2e3a4b"
USER_ID = "01999c00-1000-7a10-8b20-3c4d5e6f7081"
EVENT_ID = "1767225600000-42"
HANDSHAKE_TOKEN = "eyJhbGciOi…"  # noqa: S105 - shows what one looks like

PROGRESS = {"current": 3, "total": 8, "percentage": 37.5, "message": "Reading page 3", "etaSeconds": 12.4}
FAILURE = {"code": "http_502", "message": "The source answered 502.", "retryable": True}
ERROR = {"code": "invalid_token", "message": "The token is not valid.", "status": 401, "requestId": None}
STATS = {
    "pending": 12,
    "processing": 4,
    "ratePerMinute": 93.0,
    "perQueue": {"default": {"pending": 12, "processing": 4, "ratePerMinute": 93.0}},
}

QUEUED: dict[str, Any] = {
    "id": JOB_ID,
    "type": "analysis",
    "name": "Weekly report",
    "status": "queued",
    "priority": 50,
    "queue": "default",
    "attempt": 0,
    "maxAttempts": 4,
    "progress": None,
    "result": None,
    "error": None,
    "tags": ["reports"],
    "uniqueKey": None,
    "scheduleId": None,
    "workflowId": None,
    "parentId": None,
    "createdAt": "2026-01-01T00:00:00.000Z",
    "scheduledAt": None,
    "startedAt": None,
    "completedAt": None,
    "nextAttemptAt": None,
    "cancelReason": None,
    "sensitive": False,
    "queuePosition": 2,
    "estimatedWaitSeconds": 4.5,
    "version": 1,
}
STARTED = {name: value for name, value in QUEUED.items() if name not in {"queuePosition", "estimatedWaitSeconds"}} | {
    "status": "active",
    "attempt": 1,
    "startedAt": "2026-01-01T00:00:04.000Z",
    "version": 2,
}
ENDED = {**STARTED, "progress": PROGRESS, "completedAt": "2026-01-01T00:00:30.000Z", "version": 3}
WAITING = {**QUEUED, "status": "scheduled", "scheduledAt": "2026-01-02T00:00:00.000Z"}

NOTIFICATION = {
    "id": "01999c2e-9b00-7d00-8e00-112233445566",
    "type": "job_completed",
    "category": "jobs",
    "title": "Weekly report completed",
    "message": "Weekly report completed successfully.",
    "data": {"jobId": JOB_ID, "jobType": "analysis"},
    "actions": [
        {
            "key": "view",
            "label": "View Results",
            "kind": "link",
            "url": f"https://carillon.example.com/jobs/{JOB_ID}",
        }
    ],
    "resolution": None,
    "read": False,
    "readAt": None,
    "archived": False,
    "archivedAt": None,
    "snoozedUntil": None,
    "expiresAt": None,
    "sendId": None,
    "createdAt": "2026-01-01T00:00:30.000Z",
}
SNOOZED = {**NOTIFICATION, "snoozedUntil": "2026-01-02T08:00:00.000Z"}


def _of_job(event: str, job: dict[str, Any], **more: Any) -> Entry:
    return {"event": event, "at": "2026-01-01T00:00:30.000Z", "userId": USER_ID, "job": job, **more}


def _of_inbox(event: str, unread: int, **more: Any) -> Entry:
    return {"event": event, "userId": USER_ID, "inbox": {"count": unread, "version": 12}, **more}


_ENTRIES = [
    _of_job("JobCreated", QUEUED),
    _of_job("JobQueued", QUEUED),
    _of_job("JobPostponed", WAITING),
    _of_job("JobStarted", STARTED),
    _of_job("JobProgressed", STARTED, progress=PROGRESS),
    _of_job(
        "JobRetrying",
        {**STARTED, "status": "retrying", "error": FAILURE, "nextAttemptAt": "2026-01-01T00:00:32.000Z", "version": 3},
    ),
    _of_job("JobCompleted", {**ENDED, "status": "completed", "result": {"pages": 8}}),
    _of_job("JobFailed", {**ENDED, "status": "failed", "attempt": 4, "error": FAILURE}),
    _of_job("JobCancelled", {**ENDED, "status": "cancelled", "cancelReason": "not needed any more"}),
    _of_inbox("NotificationCreated", 4, notification=NOTIFICATION),
    _of_inbox("NotificationRead", 3, notificationId=NOTIFICATION["id"]),
    _of_inbox("NotificationUnread", 4, notificationId=NOTIFICATION["id"]),
    _of_inbox("NotificationDeleted", 0, notificationId=None),
    _of_inbox("NotificationUpdated", 3, notification=SNOOZED),
    _of_inbox("NotificationReturned", 4, notification=NOTIFICATION),
]

EXAMPLES: dict[str, Entry] = {entry["event"]: entry for entry in _ENTRIES}
