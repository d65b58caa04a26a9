"""The buttons of notifications: whoever presses one first settles the matter for everybody who was asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from service.accounts.identity import Identity
from service.clock import utcnow
from service.database import fetch_all, transaction
from service.errors import Conflict, NotFound
from service.events import NotificationUpdated, SendResolved, publish
from service.notifications.actions import change
from service.notifications.counts import UNREAD, count_unread, inbox_json, lock_inboxes
from service.notifications.models import Notification, NotificationSend
from service.notifications.queries import NotificationNotFound, own_notification
from service.notifications.representation import COLUMNS, notification_json

# The type of notification that asks for an approval.
APPROVAL = "approval"
# Recipients that are told at once.
CHUNK = 500


class ActionNotFound(NotFound):
    """The notification has no such action."""

    code = "action_not_found"


class ActionIsLink(Conflict):
    """This action is a link: it is followed, not carried out."""

    code = "action_is_link"


class AlreadyResolved(Conflict):
    """Somebody has settled this already."""

    code = "already_resolved"

    def __init__(self, resolution: str) -> None:
        super().__init__(errors={"resolution": [resolution]})


def approval_actions() -> list[dict[str, str]]:
    """The buttons of an approval that was sent without any."""
    return [
        {"key": "approve", "label": "Approve", "kind": "action", "style": "primary"},
        {"key": "reject", "label": "Reject", "kind": "action", "style": "danger"},
    ]


def take_action(notification_id: UUID, key: str, identity: Identity) -> Notification:
    """Press a button of one's notification; it is read by that, and settled for all who got the same.

    Raises NotificationNotFound, NotAllowed, ActionNotFound, ActionIsLink or AlreadyResolved.
    """
    with transaction() as session:
        notification = own_notification(notification_id, identity)
        action = _action(notification, key)
        # The send comes before notifications and counts: two who press at once wait for each other here.
        send = (
            None
            if notification.send_id is None
            else session.get(NotificationSend, notification.send_id, with_for_update=True, populate_existing=True)
        )
        if send is None:
            return change(notification_id, identity, lambda each: _settle(each, key))
        if send.resolution is not None:
            raise AlreadyResolved(send.resolution)
        send.resolution, send.resolved_by, send.resolved_at = key, identity.user_id, utcnow()
        session.flush()
        _resolve(send, notification_id, identity)
        if send.sender_id not in {None, identity.user_id}:
            publish(SendResolved(_send_json(send), identity.username, action["label"]))
        session.refresh(notification)
    return notification


def _action(notification: Notification, key: str) -> Mapping[str, Any]:
    action = next((each for each in notification.actions or () if each["key"] == key), None)
    if action is None:
        raise ActionNotFound
    if action["kind"] == "link":
        raise ActionIsLink
    return action


def _settle(notification: Notification, key: str) -> bool:
    if notification.resolution is not None:
        raise AlreadyResolved(notification.resolution)
    notification.resolution = key
    notification.read_at = notification.read_at or utcnow()
    return True


RESOLVE = f"""
WITH asked AS (
    SELECT id, ({UNREAD}) AS was_unread FROM notifications WHERE send_id = %(send_id)s ORDER BY id FOR UPDATE),
changed AS (
    UPDATE notifications AS each SET resolution = %(resolution)s,
        read_at = CASE WHEN each.id = %(id)s THEN coalesce(each.read_at, %(now)s::timestamptz) ELSE each.read_at END
    FROM asked WHERE each.id = asked.id
    RETURNING {", ".join(f"each.{name}" for name in COLUMNS)}, asked.was_unread)
SELECT row_to_json(changed)::text AS notification FROM changed ORDER BY id
"""

COUNTS = """
SELECT inboxes.user_id::text, unread, version FROM inboxes JOIN notifications USING (user_id)
WHERE notifications.send_id = %(send_id)s
"""


def _resolve(send: NotificationSend, notification_id: UUID, identity: Identity) -> None:
    """Settle a matter in all inboxes that it stands in, and tell them; raises NotificationNotFound."""
    asked = {"send_id": str(send.id), "resolution": send.resolution, "id": str(notification_id), "now": utcnow()}
    rows = [json.loads(row["notification"]) for row in fetch_all(RESOLVE, asked)]
    pressed = next((row for row in rows if row["id"] == str(notification_id)), None)
    if pressed is None:
        raise NotificationNotFound
    lock_inboxes({identity.user_id, send.sender_id or identity.user_id})
    count_unread(identity.user_id, -pressed["was_unread"])
    counts = {row["user_id"]: inbox_json(row) for row in fetch_all(COUNTS, {"send_id": str(send.id)})}
    for first in range(0, len(rows), CHUNK):
        publish(*_updates(rows[first : first + CHUNK], counts))


def _updates(rows: Sequence[Mapping[str, Any]], counts: Mapping[str, dict[str, int]]) -> list[NotificationUpdated]:
    return [
        NotificationUpdated(
            UUID(row["user_id"]),
            UUID(row["id"]),
            counts.get(row["user_id"], inbox_json(None)),
            notification_json(row),
        )
        for row in rows
    ]


def _send_json(send: NotificationSend) -> dict[str, Any]:
    return {
        "id": send.id,
        "organization_id": send.organization_id,
        "sender_id": send.sender_id,
        "title": send.title,
        "resolution": send.resolution,
        "resolved_by": send.resolved_by,
    }
