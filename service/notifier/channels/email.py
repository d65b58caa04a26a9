"""E-mail: the ends of jobs, held for some seconds so that a burst of them becomes one mail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.notifications import providers
from service.notifications.preferences import EMAIL, decision
from service.notifier.channels.base import IS_CRITICAL, FollowUp, Planned
from service.settings import current_settings

ONLY = frozenset({"job_completed", "job_failed"})

# What has its hour already waits for that; of what is not sent only the reason is kept. That there are no mails at all
# is known without a row for each.
_MESSAGES = f"""
INSERT INTO channel_messages (id, organization_id, user_id, channel, source_id, notification_type, template, data,
    status, reason, digest, attempts, created_at, next_attempt_at)
SELECT derived_id(event.id, event.user_id || ':email'), event.organization_id, event.user_id, 'email', event.id,
    event.preference, event.notification,
    CASE decision.status WHEN 'suppressed' THEN '{{}}' ELSE
        jsonb_build_object('jobId', event.job_id, 'jobName', event.job_name, 'title', event.title,
            'message', event.message, 'error', event.webhook_data ->> 'error',
            'url', %(email_jobs_url)s::text || event.job_id) END,
    CASE decision.status WHEN 'suppressed' THEN 'suppressed' ELSE 'held' END, coalesce(decision.reason, 'digest'),
    CASE decision.status WHEN 'pending' THEN 'burst' ELSE decision.digest END, 0, event.at,
    CASE decision.status WHEN 'pending' THEN event.at + make_interval(secs => %(email_gather_seconds)s)
        ELSE decision.next_attempt_at END
FROM event JOIN users AS recipient ON recipient.id = event.user_id
    CROSS JOIN LATERAL ({decision("'email'", "event.preference", IS_CRITICAL, at="event.at")}) AS decision
WHERE event.tells_inbox
ON CONFLICT (id) DO NOTHING
RETURNING id
"""

PLAN = {"email": _MESSAGES}


def is_on() -> bool:
    """Whether there are mails at all."""
    return providers.is_on(EMAIL)


def parameters() -> Mapping[str, Any]:
    """What the plan asks of the settings."""
    settings = current_settings()
    return {
        "email_gather_seconds": settings.email_gather_seconds,
        "email_jobs_url": f"{settings.public_url}/jobs/",
    }


def after_commit(planned: Planned) -> FollowUp:  # noqa: ARG001 - as all channels
    """Nothing: a tick releases what is held."""
    return FollowUp()
