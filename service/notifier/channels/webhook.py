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

_DELIVERIES = """
INSERT INTO webhook_deliveries (id, organization_id, user_id, webhook_id, event_id, event_type, job_id, payload,
    status, attempts, next_attempt_at, created_at)
SELECT derived_id(event.id, webhook.id::text), event.organization_id, event.user_id, webhook.id, event.id,
    'job.' || event.webhook, event.job_id,
    jsonb_build_object('type', 'job.' || event.webhook,
        'timestamp', to_char(event.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
        'data', jsonb_build_object('id', event.job_id, 'jobname', event.job_name, 'userId', event.user_id)
            || event.webhook_data),
    'pending', 0, event.at, event.at
FROM event JOIN webhooks AS webhook
    ON webhook.user_id = event.user_id AND webhook.active AND webhook.event_type IN (event.webhook, 'all')
ON CONFLICT (id) DO NOTHING
RETURNING id
"""


PLAN = {"webhook": _DELIVERIES}


def after_commit(planned: Planned) -> FollowUp:
    """The delivery task, when there is something to deliver."""
    return FollowUp(wakes=(DELIVERY_TASK,) if planned["webhook"] else ())


# Whether a user has endpoints for progress is asked this often by each process, not at every step of every job.
PROGRESS_ENDPOINTS_SECONDS = 5.0
_progress_endpoints: dict[str, tuple[float, bool]] = {}

# A step that is not yet sent is superseded by the next one.
PLAN_PROGRESS = """
WITH superseded AS (
    UPDATE webhook_deliveries SET payload = %(payload)s
    WHERE job_id = %(job_id)s AND event_type = 'job.progress' AND status = 'pending' AND attempts = 0
    RETURNING webhook_id)
INSERT INTO webhook_deliveries (id, organization_id, user_id, webhook_id, event_id, event_type, job_id, payload,
    status, attempts, next_attempt_at, created_at)
SELECT derived_id(%(event_id)s, id::text), organization_id, user_id, id, %(event_id)s, 'job.progress', %(job_id)s,
    %(payload)s, 'pending', 0, %(now)s, %(now)s
FROM webhooks
WHERE user_id = %(user_id)s AND active AND event_type IN ('progress', 'all')
    AND id NOT IN (SELECT webhook_id FROM superseded)
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
