"""Alerts to operators: jobs of one type that fail with one error are told of once, however many fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

import structlog
from sqlalchemy import select

from service.accounts.models import User
from service.accounts.roles import ADMIN, OPERATOR
from service.clock import isoformat, utcnow
from service.database import fetch_all, fetch_one, transaction
from service.notifications.counts import lock_inboxes
from service.notifier.announcements import Announcement, announce
from service.settings import current_settings

log = structlog.get_logger(__name__)

FAILURE_ALERT = "failure_alert"
# An alert tells how many have failed since the last one, unless that is as long ago.
FORGOTTEN_AFTER = timedelta(days=1)
MESSAGE_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Failing:
    """Jobs of one tenant and type that failed with one code; `message` is the last one's.

    `alerted_at` is when operators were last told, if that was not so long ago; `failures` counts from then.
    """

    organization_id: UUID
    job_type: str
    error_code: str
    failures: int
    message: str
    alerted_at: datetime | None


_CODE = "coalesce(job.error ->> 'code', 'unknown')"

FAILING = f"""
WITH failing AS (
    SELECT job.organization_id, job.type AS job_type, {_CODE} AS error_code, count(*) AS failures,
        (array_agg(job.error ->> 'message' ORDER BY job.completed_at DESC))[1] AS message
    FROM jobs AS job
    WHERE job.status = 'failed' AND job.completed_at > %(since)s
    GROUP BY job.organization_id, job.type, {_CODE} HAVING count(*) >= %(threshold)s)
SELECT failing.organization_id::text, job_type, error_code, failing.failures, failing.message,
    CASE WHEN alert.alerted_at > %(forgotten)s THEN alert.alerted_at END AS alerted_at
FROM failing LEFT JOIN failure_alerts AS alert USING (organization_id, job_type, error_code)
WHERE alert.alerted_at IS NULL OR alert.alerted_at <= %(repeat)s
ORDER BY failing.organization_id, job_type, error_code
"""

SINCE = f"""
SELECT count(*) AS failures FROM jobs AS job
WHERE job.status = 'failed' AND job.completed_at > %(since)s AND job.organization_id = %(organization_id)s
    AND job.type = %(job_type)s AND {_CODE} = %(error_code)s
"""

# Of two who noticed the same at once, one row comes back to one.
CLAIM = """
INSERT INTO failure_alerts AS alert (organization_id, job_type, error_code, alerted_at, failures)
VALUES (%(organization_id)s, %(job_type)s, %(error_code)s, %(now)s, %(failures)s)
ON CONFLICT (organization_id, job_type, error_code) DO UPDATE
SET alerted_at = excluded.alerted_at, failures = excluded.failures WHERE alert.alerted_at <= %(repeat)s
RETURNING job_type
"""


def alert_operators() -> int:
    """Tell operators and administrators what keeps failing in their tenants; how many alerts that were."""
    now = utcnow()
    return sum(_alert(each, now) for each in _failing(now))


def _failing(now: datetime) -> list[Failing]:
    """What has failed often enough, and was not told of lately."""
    settings = current_settings()
    with transaction():
        rows = fetch_all(
            FAILING,
            {
                "since": now - timedelta(seconds=settings.alert_window_seconds),
                "threshold": settings.alert_failures,
                "forgotten": now - FORGOTTEN_AFTER,
                "repeat": now - timedelta(seconds=settings.alert_repeat_seconds),
            },
        )
    return [
        Failing(
            UUID(row["organization_id"]),
            row["job_type"],
            row["error_code"],
            row["failures"],
            row["message"] or "",
            row["alerted_at"],
        )
        for row in rows
    ]


def _alert(failing: Failing, now: datetime) -> bool:
    key = {
        "organization_id": str(failing.organization_id),
        "job_type": failing.job_type,
        "error_code": failing.error_code,
    }
    repeat = now - timedelta(seconds=current_settings().alert_repeat_seconds)
    with transaction():
        failures = failing.failures
        if failing.alerted_at is not None:
            since = fetch_one(SINCE, {**key, "since": failing.alerted_at})
            failures = since["failures"] if since else 0
        if not fetch_all(CLAIM, {**key, "now": now, "failures": failures, "repeat": repeat}):
            return False
        recipients = _operators(failing.organization_id)
        lock_inboxes(recipients)
        for user_id in recipients:
            announce(_announcement(failing, failures, user_id))
    log.warning("jobs_failing", **key, failures=failures, recipients=len(recipients))
    return True


def _operators(organization_id: UUID) -> Sequence[UUID]:
    query = select(User.id).where(
        User.organization_id == organization_id, User.is_active, User.roles.overlap([ADMIN, OPERATOR])
    )
    with transaction() as session:
        return session.scalars(query.order_by(User.id)).all()


def _announcement(failing: Failing, failures: int, user_id: UUID) -> Announcement:
    settings = current_settings()
    jobs = "job" if failures == 1 else "jobs"
    url = f"{settings.public_url}/jobs?{urlencode({'status': 'failed', 'type': failing.job_type})}"
    if failing.alerted_at is None:
        title = f"{failures} {jobs} of type {failing.job_type} failed"
        when = f"within {settings.alert_window_seconds} s"
    else:
        title = f"{failures} more {jobs} of type {failing.job_type} failed"
        when = f"since the last alert ({isoformat(failing.alerted_at)})"
    message = f"{title} with {failing.error_code} {when}, the last one with: {failing.message[:MESSAGE_LENGTH]}\n{url}"
    data = {
        "jobType": failing.job_type,
        "errorCode": failing.error_code,
        "failures": failures,
        "since": isoformat(failing.alerted_at),
        "url": url,
    }
    return Announcement(failing.organization_id, user_id, FAILURE_ALERT, title, message, data)
