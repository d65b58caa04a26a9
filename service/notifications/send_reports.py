"""Reads of what was sent: who may see it, how far it has come."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select

from service.accounts.identity import Identity
from service.clock import isoformat
from service.database import db, fetch_all, transaction
from service.errors import NotAllowed
from service.jobs.states import CANCELLED, COMPLETED, FAILED, FINAL, SCHEDULED
from service.notifications.audience import Audience, count_recipients
from service.notifications.models import NotificationSend
from service.notifications.preferences import IN_APP
from service.notifications.sending import SendNotFound
from service.notifications.sends import CHANNEL_OF, jobs_of
from service.pagination import LongList, Page

SENDING = "sending"
COUNTED = ("pending", "sent", "failed", "held", "suppressed", "delivered")
# What stands for what in these counts: what was digested long ago went with a digest that is not kept any more.
_COUNTED_AS: Mapping[str, str] = {"sending": "pending", "digested": "sent"}


def visible_send(send_id: UUID, identity: Identity) -> NotificationSend:
    """A send that somebody may see: its sender, and operators; raises SendNotFound across tenants, else NotAllowed."""
    send = db.session.get(NotificationSend, send_id)
    if send is None or send.organization_id != identity.organization_id:
        raise SendNotFound
    if send.sender_id != identity.user_id and not identity.is_operator:
        raise NotAllowed
    return send


def list_sends(identity: Identity, page: Page) -> dict[str, Any]:
    """A page of what the user has sent, or his tenant for an operator, newest first."""
    query = select(NotificationSend).where(NotificationSend.organization_id == identity.organization_id)
    if not identity.is_operator:
        query = query.where(NotificationSend.sender_id == identity.user_id)
    return LongList(query, NotificationSend.id).read(page, send_json)


def send_json(send: NotificationSend) -> dict[str, Any]:
    """A send as lists show it."""
    return {
        "id": str(send.id),
        "type": send.type,
        "category": send.category,
        "title": send.title,
        "message": send.message,
        "senderId": _text(send.sender_id),
        "audience": send.audience,
        "channels": send.channels,
        "critical": send.is_critical,
        "template": send.template_name,
        "sendAt": isoformat(send.send_at),
        "expiresAt": isoformat(send.expires_at),
        "createdAt": isoformat(send.created_at),
        "resolution": send.resolution,
        "resolvedBy": _text(send.resolved_by),
        "resolvedAt": isoformat(send.resolved_at),
    }


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)


def report(send: NotificationSend) -> dict[str, Any]:
    """A send with its status, its jobs, how many it is for, and what became of it by each channel."""
    jobs = jobs_of(send.id)
    counts = _counts(send)
    return {
        **send_json(send),
        "status": _status([job["status"] for job in jobs], counts),
        "recipients": _recipients(send, jobs),
        "perChannel": counts,
        "jobs": [
            {"channel": CHANNEL_OF[job["type"]], "jobId": str(job["id"]), "status": job["status"]}
            for job in jobs
            if job["parent_id"] is None
        ],
    }


# What went into a digest is where that is; looked up by its id, one by one, for few were gathered.
_MESSAGES = """
SELECT message.channel, count(*) AS count,
    CASE WHEN message.digest_id IS NULL THEN message.status ELSE coalesce(
        (SELECT digest.status FROM channel_messages AS digest WHERE digest.id = message.digest_id), message.status)
    END AS status
FROM channel_messages AS message WHERE message.send_id = %(send_id)s::uuid
GROUP BY 1, 3
"""
_INBOXES = "SELECT count(*) AS count FROM notifications WHERE send_id = %(send_id)s::uuid"


def _counts(send: NotificationSend) -> dict[str, dict[str, int]]:
    """By channel. What was delivered to inboxes and deleted there is not counted any more."""
    counts = {channel: dict.fromkeys(COUNTED, 0) for channel in send.channels}
    asked = {"send_id": str(send.id)}
    with transaction():
        for row in fetch_all(_MESSAGES, asked):
            of_channel = counts.setdefault(row["channel"], dict.fromkeys(COUNTED, 0))
            status = str(row["status"])
            of_channel[_COUNTED_AS.get(status, status)] += row["count"]
        if IN_APP in counts:
            counts[IN_APP]["delivered"] = fetch_all(_INBOXES, asked)[0]["count"]
    return counts


def _status(of_jobs: Sequence[str], counts: Mapping[str, Mapping[str, int]]) -> str:
    """Of the whole: a job that failed says so when nothing is under way any more."""
    statuses = set(of_jobs)
    if SCHEDULED in statuses:
        return SCHEDULED
    if statuses - FINAL or any(each["pending"] for each in counts.values() if not statuses & {FAILED, CANCELLED}):
        return SENDING
    if FAILED in statuses:
        return FAILED
    return CANCELLED if CANCELLED in statuses else COMPLETED


def _recipients(send: NotificationSend, jobs: Sequence[Mapping[str, Any]]) -> int:
    """As the jobs found them; before that, and when the jobs have been pruned, as the audience is now."""
    results = [json.loads(job["result"]) for job in jobs if job["result"] is not None and job["parent_id"] is None]
    found = [result["recipients"] for result in results if "recipients" in result]
    return max(found) if found else count_recipients(send.organization_id, Audience.given(send.audience))
