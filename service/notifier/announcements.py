"""What the platform itself has to tell a user: in the inbox, by webhooks and by e-mail, as far as he wants it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from service.clock import utcnow
from service.database import after_commit, fetch_all, is_passing, savepoint, transaction
from service.events import SendResolved, WebhookDisabled, WebhookEvent
from service.ids import new_id
from service.notification_templates.builtin import APPROVAL_RESOLVED, WEBHOOK_DISABLED, WEBHOOK_FAILING
from service.notifications import providers
from service.notifications.channel_messages import SEND_TASK
from service.notifications.counts import lock_inboxes
from service.notifications.preferences import APPROVALS, EMAIL, WEBHOOKS, decision
from service.notifier.channels.base import IS_CRITICAL, follow_ups, parameters, planning, plans
from service.realtime import untold
from service.realtime.log import append
from service.webhooks.outbox import DISABLES_AT

log = structlog.get_logger(__name__)

CATEGORY = "system"


@dataclass(frozen=True)
class Announcement:
    """News for one user; `preference` is the type that he is asked by.

    `type` is the notification's, and names the template of its mail, which is given the `variables`. A digest shows the
    title and the message, as the inbox does.
    """

    organization_id: UUID
    user_id: UUID
    preference: str
    type: str
    title: str
    message: str
    data: Mapping[str, Any]
    variables: Mapping[str, Any]


def announce(announcement: Announcement) -> None:
    """Plan the news in the present transaction, and push them once they stand."""
    with transaction():
        planned = _plan(announcement)

        def push() -> None:
            follow_up = follow_ups(planned)
            mails = [SEND_TASK for mail in planned["mail"] if mail["status"] == "pending"]
            append(follow_up.entries, [*follow_up.wakes, *mails], untold.by_user(planned["untold"]))

        after_commit(push)


def announce_each(announcements: Sequence[Announcement]) -> int:
    """Plan several news in the present transaction, each by itself; how many could be planned.

    What cannot be is logged: it keeps neither the others from being told, nor what happened from being written. Raises
    what may do better another time, see `is_passing`.
    """
    with transaction():
        # In their order at once: two who tell the same users one by one could wait for each other.
        lock_inboxes({each.user_id for each in announcements})
        return sum(_could_announce(each) for each in announcements)


def _could_announce(announcement: Announcement) -> bool:
    try:
        with savepoint():
            announce(announcement)
    except Exception as error:
        if is_passing(error):
            raise
        log.exception("announcement_failed", user_id=str(announcement.user_id), type=announcement.type)
        return False
    return True


# The event that all channels plan for.
_EVENT = f"""
event AS (
    SELECT %(id)s::uuid AS id, %(now)s::timestamptz AS at, %(organization_id)s::uuid AS organization_id,
        %(user_id)s::uuid AS user_id, NULL::uuid AS job_id, NULL::text AS job_name, %(preference)s::text AS preference,
        %(type)s AS notification, true AS tells_inbox, '{CATEGORY}' AS category, %(title)s AS title,
        %(message)s AS message, %(data)s::jsonb AS data, NULL::jsonb AS actions, NULL::text AS webhook,
        NULL::jsonb AS webhook_data)
"""

# Not gathered as those of jobs are: such news are few, and wait for nothing but quiet hours and digests.
_MAIL = f"""
INSERT INTO channel_messages (id, organization_id, user_id, channel, source_id, notification_type, template, data,
    status, reason, digest, attempts, created_at, next_attempt_at)
SELECT derived_id(event.id, event.user_id || ':email'), event.organization_id, event.user_id, '{EMAIL}', event.id,
    event.preference, event.notification,
    %(variables)s::jsonb || jsonb_build_object('subject', event.title, 'text', event.message),
    CASE WHEN %(email_enabled)s THEN decision.status ELSE 'suppressed' END,
    CASE WHEN %(email_enabled)s THEN decision.reason ELSE 'channel_off' END,
    decision.digest, 0, event.at,
    CASE WHEN %(email_enabled)s THEN decision.next_attempt_at END
FROM event JOIN users AS recipient ON recipient.id = event.user_id
    CROSS JOIN LATERAL ({decision(f"'{EMAIL}'", "event.preference", IS_CRITICAL, at="event.at")}) AS decision
RETURNING status
"""

# Who has muted them in the inbox is told nothing.
_UNTOLD = """
INSERT INTO untold_events (user_id, created_at) SELECT user_id, created_at FROM inbox RETURNING id, user_id
"""


def _plan(announcement: Announcement) -> dict[str, list[dict[str, Any]]]:
    channels = planning()
    statements = {**plans(channels), "mail": _MAIL, "untold": _UNTOLD}
    parts = ", ".join(f"{name} AS ({sql})" for name, sql in statements.items())
    results = ", ".join(f"(SELECT coalesce(json_agg({name}), '[]') FROM {name})::text AS {name}" for name in statements)
    rows = fetch_all(
        f"WITH {_EVENT}, {parts} SELECT {results}",
        {
            **parameters(channels),
            "id": str(new_id()),
            "now": utcnow(),
            "organization_id": str(announcement.organization_id),
            "user_id": str(announcement.user_id),
            "preference": announcement.preference,
            "type": announcement.type,
            "title": announcement.title,
            "message": announcement.message,
            "data": json.dumps(announcement.data),
            "variables": json.dumps(announcement.variables),
            "email_enabled": providers.is_on(EMAIL),
        },
    )
    return {name: json.loads(rows[0][name]) for name in statements}


def on_webhook_events(events: Sequence[WebhookEvent]) -> None:
    """Tell the owners of endpoints that are in trouble."""
    announce_each([_of_webhook(event) for event in events])


# What somebody has done who pressed one of the usual buttons.
DONE = {"approve": "approved", "reject": "rejected"}


def on_sends_resolved(events: Sequence[SendResolved]) -> None:
    """Tell who asked for something what became of it."""
    announce_each([_of_send(event) for event in events])


def _of_send(event: SendResolved) -> Announcement:
    send = event.send
    done = DONE.get(send["resolution"], f"chose “{event.label}”")
    news = f"{event.username} {done}: {send['title']}"
    resolution = {"resolution": send["resolution"]}
    data = {"sendId": str(send["id"]), **resolution, "resolvedBy": str(send["resolved_by"])}
    words = {"title": send["title"], **resolution, "label": event.label, "resolvedBy": event.username}
    return Announcement(
        send["organization_id"], send["sender_id"], APPROVALS, APPROVAL_RESOLVED, news, f"{news}.", data, words
    )


def _of_webhook(event: WebhookEvent) -> Announcement:
    webhook = event.webhook
    url = webhook["url"]
    data = {"webhookId": str(webhook["id"]), "url": url, "failures": webhook["failures"]}
    words = {"webhookId": data["webhookId"], "webhookUrl": url, "failures": webhook["failures"]}
    if not isinstance(event, WebhookDisabled):
        type_, title = WEBHOOK_FAILING, "A webhook keeps failing"
        message = (
            f"The last {webhook['failures']} attempts to reach {url} have failed. After {DISABLES_AT} in a row, or "
            "after five days, the endpoint is switched off."
        )
        words["disablesAt"] = DISABLES_AT
    else:
        type_, title = WEBHOOK_DISABLED, "A webhook was switched off"
        cause = "answered 410 Gone" if webhook["disabled_reason"] == "gone" else "has failed for too long"
        message = (
            f"{url} {cause}, so nothing more is sent to it. What it misses is kept and can be recovered once the "
            "endpoint is switched on again."
        )
        words["reason"] = webhook["disabled_reason"]
    return Announcement(webhook["organization_id"], webhook["user_id"], WEBHOOKS, type_, title, message, data, words)
