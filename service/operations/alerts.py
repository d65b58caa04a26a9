"""Alerts: jobs of one type that fail with one error are told of once, however many fail.

Operators and administrators hear of those of their tenant, and everybody else of his own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import structlog
from sqlalchemy import select

from service.accounts.models import User
from service.accounts.roles import ADMIN, OPERATOR
from service.clock import isoformat, utcnow
from service.database import fetch_all, fetch_one, transaction
from service.notification_templates.builtin import FAILURE_ALERT
from service.notifications.preferences import ALERTS
from service.notifier.announcements import Announcement, announce_each
from service.settings import current_settings

log = structlog.get_logger(__name__)

# An alert tells how many have failed since the last one, unless that is as long ago.
FORGOTTEN_AFTER = timedelta(days=1)
MESSAGE_LENGTH = 300


class NobodyTold(Exception):
    """There is somebody to alert, and nobody of them can be told."""


@dataclass(frozen=True, slots=True)
class Failing:
    """Jobs of one tenant, or of its user `owner_id`, of one type that failed with one code.

    `message` is the last one's. `alerted_at` is when it was last told, if that was not so long ago; `failures` counts
    from then.
    """

    organization_id: UUID
    owner_id: UUID | None
    job_type: str
    error_code: str
    failures: int
    message: str
    alerted_at: datetime | None

    @property
    def key(self) -> Mapping[str, Any]:
        """What the statements about it ask for."""
        return {
            "organization_id": str(self.organization_id),
            "owner_id": None if self.owner_id is None else str(self.owner_id),
            "job_type": self.job_type,
            "error_code": self.error_code,
        }


_CODE = "coalesce(job.error ->> 'code', 'unknown')"

# Who hears of his tenant's is not told of his own beside. What `notify` keeps quiet is told to operators only. The last
# message is looked up for what is told, and not gathered from all that failed.
FAILING = f"""
WITH owned AS MATERIALIZED (
    SELECT job.organization_id, job.user_id, job.notify, job.type AS job_type, {_CODE} AS error_code,
        count(*) AS failures
    FROM jobs AS job
    WHERE job.status = 'failed' AND job.completed_at > %(since)s
    GROUP BY job.organization_id, job.user_id, job.notify, job.type, {_CODE}),
failing AS (
    SELECT organization_id, NULL::uuid AS owner_id, job_type, error_code, sum(failures) AS failures
    FROM owned GROUP BY organization_id, job_type, error_code HAVING sum(failures) >= %(threshold)s
    UNION ALL
    SELECT owned.organization_id, owned.user_id, job_type, error_code, failures
    FROM owned, LATERAL (SELECT is_active, roles FROM users WHERE id = owned.user_id OFFSET 0) AS owner
    WHERE notify AND failures >= %(threshold)s AND owner.is_active
        AND NOT owner.roles && ARRAY['{ADMIN}', '{OPERATOR}']),
told AS (
    SELECT failing.*, coalesce(of_tenant.alerted_at, of_owner.alerted_at) AS alerted_at
    FROM failing
        LEFT JOIN failure_alerts AS of_tenant ON failing.owner_id IS NULL
            AND of_tenant.organization_id = failing.organization_id AND of_tenant.job_type = failing.job_type
            AND of_tenant.error_code = failing.error_code
        LEFT JOIN owner_alerts AS of_owner ON of_owner.user_id = failing.owner_id
            AND of_owner.job_type = failing.job_type AND of_owner.error_code = failing.error_code)
SELECT organization_id::text, owner_id::text, job_type, error_code, failures::int,
    (SELECT job.error ->> 'message' FROM jobs AS job
        WHERE job.status = 'failed' AND job.completed_at > %(since)s AND job.organization_id = told.organization_id
            AND job.type = told.job_type AND {_CODE} = told.error_code
            AND (told.owner_id IS NULL OR job.user_id = told.owner_id AND job.notify)
        ORDER BY job.completed_at DESC LIMIT 1) AS message,
    CASE WHEN alerted_at > %(forgotten)s THEN alerted_at END AS alerted_at
FROM told WHERE alerted_at IS NULL OR alerted_at <= %(repeat)s
ORDER BY told.organization_id, told.owner_id, job_type, error_code
"""

_SINCE = f"""
SELECT count(*) AS failures FROM jobs AS job
WHERE job.status = 'failed' AND job.completed_at > %(since)s AND job.organization_id = %(organization_id)s
    AND job.type = %(job_type)s AND {_CODE} = %(error_code)s
"""
SINCE, SINCE_OF_OWNER = _SINCE, f"{_SINCE} AND job.user_id = %(owner_id)s AND job.notify"

# Of two who noticed the same at once, one row comes back to one.
_CLAIM = """
INSERT INTO {table} AS alert ({whose}, job_type, error_code, alerted_at, failures)
VALUES ({value}, %(job_type)s, %(error_code)s, %(now)s, %(failures)s)
ON CONFLICT ({whose}, job_type, error_code) DO UPDATE
SET alerted_at = excluded.alerted_at, failures = excluded.failures WHERE alert.alerted_at <= %(repeat)s
RETURNING job_type
"""
CLAIM = _CLAIM.format(table="failure_alerts", whose="organization_id", value="%(organization_id)s")
CLAIM_OF_OWNER = _CLAIM.format(table="owner_alerts", whose="user_id", value="%(owner_id)s")


def alert_to_failures() -> int:
    """Tell operators what keeps failing in their tenants, and users what of theirs does; how many alerts that were.

    An alert that fails is logged and tried again by the next tick; the others are told.
    """
    now = utcnow()
    return sum(_could_alert(each, now) for each in _failing(now))


def _could_alert(failing: Failing, now: datetime) -> bool:
    try:
        return _alert(failing, now)
    except Exception:
        log.exception("alert_failed", **failing.key)
        return False


FORGET = """
WITH of_operators AS (DELETE FROM failure_alerts WHERE alerted_at <= %(forgotten)s AND alerted_at <= %(repeat)s)
DELETE FROM owner_alerts WHERE alerted_at <= %(forgotten)s AND alerted_at <= %(repeat)s
"""


def forget_old_alerts() -> None:
    """Forget the alerts that are so long ago that the next one takes no notice of them."""
    now = utcnow()
    repeat = now - timedelta(seconds=current_settings().alert_repeat_seconds)
    with transaction():
        fetch_all(FORGET, {"forgotten": now - FORGOTTEN_AFTER, "repeat": repeat})


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
            None if row["owner_id"] is None else UUID(row["owner_id"]),
            row["job_type"],
            row["error_code"],
            row["failures"],
            row["message"] or "",
            row["alerted_at"],
        )
        for row in rows
    ]


def _alert(failing: Failing, now: datetime) -> bool:
    claim, since = (CLAIM, SINCE) if failing.owner_id is None else (CLAIM_OF_OWNER, SINCE_OF_OWNER)
    repeat = now - timedelta(seconds=current_settings().alert_repeat_seconds)
    with transaction():
        failures = failing.failures
        if failing.alerted_at is not None:
            counted = fetch_one(since, {**failing.key, "since": failing.alerted_at})
            failures = counted["failures"] if counted else 0
        if not fetch_all(claim, {**failing.key, "now": now, "failures": failures, "repeat": repeat}):
            return False
        recipients = _operators(failing.organization_id) if failing.owner_id is None else [failing.owner_id]
        told = announce_each([_announcement(failing, failures, user_id) for user_id in recipients])
        if recipients and not told:
            # Takes the claim back, which would keep the next tick from trying again. Who alone was not told hears of
            # the next alert: to tell him of this one the others would be told twice.
            raise NobodyTold
    log.warning("jobs_failing", **failing.key, failures=failures, recipients=told)
    return True


def _operators(organization_id: UUID) -> Sequence[UUID]:
    query = select(User.id).where(
        User.organization_id == organization_id, User.is_active, User.roles.overlap([ADMIN, OPERATOR])
    )
    with transaction() as session:
        return session.scalars(query.order_by(User.id)).all()


def _announcement(failing: Failing, failures: int, user_id: UUID) -> Announcement:
    settings = current_settings()
    url = f"{settings.public_url}/jobs?{urlencode({'status': 'failed', 'type': failing.job_type})}"
    title = f"{_counted(failing, failures)} of type {failing.job_type} failed"
    if failing.alerted_at is None:
        when = f"within {settings.alert_window_seconds} s"
    else:
        when = f"since the last alert ({isoformat(failing.alerted_at)})"
    error = failing.message[:MESSAGE_LENGTH]
    message = f"{title} with {failing.error_code} {when}, the last one with: {error}\n{url}"
    data = {
        "jobType": failing.job_type,
        "errorCode": failing.error_code,
        "failures": failures,
        "since": isoformat(failing.alerted_at),
        "url": url,
    }
    words = {
        **data,
        "isOwn": failing.owner_id is not None,
        "withinSeconds": settings.alert_window_seconds,
        "error": error,
    }
    return Announcement(failing.organization_id, user_id, ALERTS, FAILURE_ALERT, title, message, data, words)


def _counted(failing: Failing, failures: int) -> str:
    """`10 jobs`, `1 more job`, `3 more of your jobs`."""
    more = "" if failing.alerted_at is None else " more"
    if failing.owner_id is not None:
        return f"{failures}{more} of your jobs"
    return f"{failures}{more} {'job' if failures == 1 else 'jobs'}"
