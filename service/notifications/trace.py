"""Why a notification went out by a channel, or did not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Text, cast, literal, null, select, union_all

from service.accounts.identity import Identity
from service.clock import isoformat
from service.database import db
from service.notifications import providers
from service.notifications.models import ChannelMessage, Notification, NotificationSend
from service.notifications.preferences import CHANNELS, EMAIL, IN_APP
from service.notifications.queries import own_notification
from service.notifications.send_reports import visible_send
from service.notifications.sending import SendNotFound
from service.notifier.channels import email
from service.pagination import LongList, Page

# Of a channel that nobody asked for, or that this platform does not have.
SKIPPED, NOT_ASKED, CHANNEL_OFF = "skipped", "not_asked", "channel_off"
DELIVERED = "delivered"

_DETAILS = ("reason", "attempts", "provider", "provider_id", "error", "address", "sent_at", "next_attempt_at")
_NAMES = ("id", "user_id", "channel", "status", "created_at", "digest_id", *_DETAILS)

# What a provider's words may give away: addresses, and numbers of eight digits or more.
_ADDRESS = re.compile(r"[^\s<>\"';:,]+@[^\s<>\"';:,]+|\+?\d[\d ()-]{6,}\d")


def trace(subject_id: UUID, identity: Identity, page: Page) -> dict[str, Any]:
    """Of a notification of the user's own: what became of it by each channel; of a send: a page, for each recipient.

    Raises NotificationNotFound and NotAllowed.
    """
    try:
        send = visible_send(subject_id, identity)
    except SendNotFound:
        return {"data": _of_notification(own_notification(subject_id, identity))}
    return _of_send(send, page)


def _of_notification(notification: Notification) -> list[dict[str, Any]]:
    query = select(*(getattr(ChannelMessage, name) for name in _NAMES)).where(
        ChannelMessage.source_id == notification.event_id, ChannelMessage.user_id == notification.user_id
    )
    rows = [dict(row) for row in db.session.execute(query).mappings()]
    digests = _digests_of(rows)
    entries = {IN_APP: _in_inbox(notification)}
    entries |= {row["channel"]: entry_json(_followed(row, digests)) for row in rows}
    return [entries.get(channel) or _skipped(notification, channel) for channel in CHANNELS]


def _digests_of(rows: Sequence[Mapping[str, Any]]) -> Mapping[UUID, Mapping[Any, Any]]:
    """The digests that messages went into, by their ids, as far as they are still there."""
    ids = {row["digest_id"] for row in rows} - {None}
    if not ids:
        return {}
    query = select(*(getattr(ChannelMessage, name) for name in _NAMES)).where(ChannelMessage.id.in_(ids))
    return {row["id"]: row for row in db.session.execute(query).mappings()}


def _followed(row: Mapping[str, Any], digests: Mapping[UUID, Mapping[Any, Any]]) -> Mapping[str, Any]:
    """A message that went into a digest has become what that has become."""
    digest = digests.get(row["digest_id"])
    return row if digest is None else {**row, **{name: digest[name] for name in ("status", *_DETAILS)}}


def _in_inbox(notification: Notification) -> dict[str, Any]:
    at = notification.created_at
    named = {"id": notification.id, "user_id": notification.user_id, "channel": IN_APP, "status": DELIVERED}
    return entry_json({**_nothing(), **named, "created_at": at, "sent_at": at})


def _skipped(notification: Notification, channel: str) -> dict[str, Any]:
    is_told = channel == EMAIL and notification.send_id is None and notification.type in email.ONLY
    reason = CHANNEL_OFF if is_told and not providers.is_on(EMAIL) else NOT_ASKED
    named = {"id": None, "user_id": notification.user_id, "channel": channel, "status": SKIPPED, "reason": reason}
    return entry_json({**_nothing(), **named, "created_at": None})


def _nothing() -> dict[str, Any]:
    return {**dict.fromkeys((*_DETAILS, "digest_id")), "attempts": 0}


def _of_send(send: NotificationSend, page: Page) -> dict[str, Any]:
    entries = union_all(_messages(send.id), _inboxes(send.id)).subquery("entries")
    listed = LongList(select(entries), entries.c.id).read(page, lambda row: {**row, "id": str(row["id"])}, [*entries.c])
    # Read for the page alone: most of a long list was never gathered.
    digests = _digests_of(listed["data"])
    return {**listed, "data": [entry_json(_followed(row, digests)) for row in listed["data"]]}


def _messages(send_id: UUID) -> Select[Any]:
    columns = [getattr(ChannelMessage, name) for name in _NAMES]
    return select(*columns).where(ChannelMessage.send_id == send_id)


def _inboxes(send_id: UUID) -> Select[Any]:
    known = {
        "id": Notification.id,
        "user_id": Notification.user_id,
        "channel": cast(literal(IN_APP), Text),
        "status": cast(literal(DELIVERED), Text),
        "created_at": Notification.created_at,
        "attempts": literal(0),
        "sent_at": Notification.created_at,
        "next_attempt_at": cast(null(), ChannelMessage.next_attempt_at.type),
        "digest_id": cast(null(), ChannelMessage.digest_id.type),
    }
    columns: list[Any] = [known.get(name, cast(null(), Text)).label(name) for name in _NAMES]
    return select(*columns).where(Notification.send_id == send_id)


def entry_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """What became of a notification by a channel; of the address only so much that its owner knows it again."""
    return {
        "id": None if row["id"] is None else str(row["id"]),
        "userId": str(row["user_id"]),
        "channel": row["channel"],
        "status": row["status"],
        "reason": row["reason"],
        "digestId": None if row["digest_id"] is None else str(row["digest_id"]),
        "attempts": row["attempts"],
        "provider": row["provider"],
        "providerId": row["provider_id"],
        "error": None if row["error"] is None else _ADDRESS.sub(lambda found: masked(found[0]), row["error"]),
        "address": None if row["address"] is None else masked(row["address"]),
        "createdAt": isoformat(row["created_at"]),
        "sentAt": isoformat(row["sent_at"]),
        "nextAttemptAt": isoformat(row["next_attempt_at"]),
    }


def masked(address: str) -> str:
    """An address of which a few characters are left: `a***@example.com`, `+49***78`."""
    name, at, domain = address.rpartition("@")
    if at:
        return f"{name[:1]}***@{domain}"
    return f"{address[:3]}***{address[-2:]}" if len(address) > 8 else "***"
