"""Webhooks: a delivery for each active endpoint that asked for this type of event."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from service.clock import isoformat, utcnow
from service.database import fetch_all, fetch_one, transaction
from service.events import JobRow
from service.ids import new_id
from service.notifier.channels.base import FollowUp, Planned
from service.queue import wake

DELIVERY_TASK = "tasks.delivery.deliver_webhooks"

# What is planned for an endpoint that is switched off is kept, so that it can be recovered. What is planned for one
# with a backlog waits behind it.
_COLUMNS = """
(id, organization_id, user_id, webhook_id, event_id, event_type, job_id, payload, status, in_backlog, attempts,
    next_attempt_at, created_at)
"""
_STATE = """
CASE WHEN webhook.active THEN 'pending' ELSE 'skipped' END, webhook.active AND webhook.backlog_at IS NOT NULL, 0,
    CASE WHEN webhook.active THEN %(now)s::timestamptz END, %(now)s::timestamptz
"""
_TIMESTAMP = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""

# S0 knows three events, so its receivers are told no others unless they ask; and its single URL is told of what no
# endpoint is told of. What is no event of a job, an announcement for one, is told as a notification alone.
_DELIVERIES = f"""
INSERT INTO webhook_deliveries {_COLUMNS}
SELECT derived_id(event.id, webhook.id::text), event.organization_id, event.user_id, webhook.id, event.id,
    'job.' || event.webhook, event.job_id,
    jsonb_build_object('type', 'job.' || event.webhook, 'timestamp', {_TIMESTAMP.format("event.at")},
        'data', jsonb_build_object('id', event.job_id, 'jobname', event.job_name, 'userId', event.user_id)
            || event.webhook_data),
    {_STATE}
FROM event JOIN webhooks AS webhook ON webhook.user_id = event.user_id AND event.webhook IS NOT NULL
    AND (webhook.event_type = event.webhook
    OR webhook.event_type = 'all' AND (webhook.payload_format <> 'flat' OR event.webhook IN ('completed', 'failed')))
WHERE NOT webhook.is_legacy OR NOT EXISTS (SELECT FROM webhooks AS other WHERE other.user_id = event.user_id
    AND other.active AND NOT other.is_legacy AND other.event_type IN (event.webhook, 'all'))
ON CONFLICT (id) DO NOTHING
RETURNING id
"""

# Over the notifications that are written by the same statement.
_OF_NOTIFICATIONS = f"""
INSERT INTO webhook_deliveries {_COLUMNS}
SELECT derived_id(inbox.id, webhook.id::text), webhook.organization_id, inbox.user_id, webhook.id, inbox.id,
    'notification.created', NULL,
    jsonb_build_object('type', 'notification.created', 'timestamp', {_TIMESTAMP.format("inbox.created_at")},
        'data', jsonb_build_object('id', inbox.id, 'type', inbox.type, 'category', inbox.category,
            'title', inbox.title, 'message', inbox.message, 'data', inbox.data, 'read', false, 'readAt', NULL,
            'createdAt', {_TIMESTAMP.format("inbox.created_at")})),
    {_STATE}
FROM inbox JOIN webhooks AS webhook ON webhook.user_id = inbox.user_id AND webhook.event_type = 'notification'
ON CONFLICT (id) DO NOTHING
RETURNING id
"""

PLAN = {"webhook": _DELIVERIES, "webhook_of_notification": _OF_NOTIFICATIONS}


def after_commit(planned: Planned) -> FollowUp:
    """The delivery task, when there is something to deliver."""
    return FollowUp(wakes=(DELIVERY_TASK,) if planned["webhook"] or planned["webhook_of_notification"] else ())


# Whether a user has endpoints for progress is asked this often by each process, not at every step of every job.
PROGRESS_ENDPOINTS_SECONDS = 5.0
_progress_endpoints: dict[str, tuple[float, bool]] = {}

# A step that is not yet sent is superseded by the next one. One that was sent and failed is not tried again: the next
# one has an id of its own, as a body of its own must.
PLAN_PROGRESS = f"""
WITH superseded AS (
    UPDATE webhook_deliveries SET payload = CASE attempts WHEN 0 THEN %(payload)s::jsonb ELSE payload END,
        status = CASE attempts WHEN 0 THEN status ELSE 'skipped' END,
        in_backlog = in_backlog AND attempts = 0,
        next_attempt_at = CASE attempts WHEN 0 THEN next_attempt_at END
    WHERE job_id = %(job_id)s AND event_type = 'job.progress' AND status = 'pending'
    RETURNING webhook_id, status)
INSERT INTO webhook_deliveries {_COLUMNS}
SELECT derived_id(%(event_id)s, webhook.id::text), webhook.organization_id, webhook.user_id, webhook.id, %(event_id)s,
    'job.progress', %(job_id)s, %(payload)s, {_STATE}
FROM webhooks AS webhook
WHERE webhook.user_id = %(user_id)s AND webhook.active AND webhook.event_type IN ('progress', 'all')
    AND webhook.id NOT IN (SELECT webhook_id FROM superseded WHERE status = 'pending')
RETURNING id
"""


def wants_progress(user_id: str) -> bool:
    """Whether a user has an endpoint for progress, as of some seconds ago."""
    known = _progress_endpoints.get(user_id)
    if known is not None and known[0] > time.monotonic():
        return known[1]
    with transaction():
        row = fetch_one(
            """
            SELECT EXISTS (SELECT FROM webhooks WHERE user_id = %(user_id)s AND active
                AND event_type IN ('progress', 'all')) AS wanted
            """,
            {"user_id": user_id},
        )
    assert row is not None
    _progress_endpoints[user_id] = (time.monotonic() + PROGRESS_ENDPOINTS_SECONDS, row["wanted"])
    return bool(row["wanted"])


def plan_progress(job: JobRow, progress: Mapping[str, Any]) -> None:
    """Plan a progress delivery to each endpoint that asked for progress; the caller keeps it to one a second."""
    now = utcnow()
    payload = {
        "type": "job.progress",
        "timestamp": isoformat(now),
        "data": {
            "id": str(job["id"]),
            "jobname": job["name"],
            "userId": str(job["user_id"]),
            "progress": progress,
        },
    }
    with transaction():
        rows = fetch_all(
            PLAN_PROGRESS,
            {
                "event_id": str(new_id()),
                "job_id": str(job["id"]),
                "user_id": str(job["user_id"]),
                "payload": json.dumps(payload),
                "now": now,
            },
        )
    if rows:
        wake(DELIVERY_TASK)
