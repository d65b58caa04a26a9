"""`/api/notifications`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from flask import Response
from flask_smorest import Blueprint

from service.accounts.identity import current_identity
from service.clock import isoformat, utcnow
from service.notifications import actions, approvals, queries, snoozing
from service.notifications.counts import unread_count
from service.notifications.models import Notification
from service.notifications.queries import InboxFilter
from service.notifications.representation import notification_json, row_of
from service.notifications.schemas import (
    CountSchema,
    InboxFilterSchema,
    InboxSchema,
    MessageSchema,
    NotificationSchema,
    ReadSchema,
    SnoozeSchema,
    UnreadCountSchema,
)
from service.pagination import Page
from service.web import json_answer

blueprint = Blueprint(
    "notifications", __name__, url_prefix="/api/notifications", description="The inbox and what comes to it"
)


@blueprint.route("", methods=["GET"])
@blueprint.arguments(InboxFilterSchema, location="query")
@blueprint.response(200, InboxSchema)
def inbox(arguments: dict[str, Any]) -> Response:
    """Read your inbox, newest first."""
    page = Page.taken_from(arguments)
    return json_answer(queries.inbox(current_identity(), page, InboxFilter(**arguments)))


@blueprint.route("/unread-count", methods=["GET"])
@blueprint.response(200, UnreadCountSchema)
def read_unread_count() -> Response:
    """Read how much of your inbox is unread."""
    return json_answer(unread_count(current_identity().user_id))


@blueprint.route("/read-all", methods=["PATCH"])
@blueprint.response(200, CountSchema)
def read_all() -> Response:
    """Mark everything read."""
    return json_answer({"count": actions.mark_all_read(current_identity())})


@blueprint.route("/<uuid:notification_id>", methods=["GET"])
@blueprint.response(200, NotificationSchema)
def get_notification(notification_id: UUID) -> Response:
    """Read a notification, which leaves it unread."""
    return json_answer(_shown(queries.own_notification(notification_id, current_identity())))


def _shown(notification: Notification) -> dict[str, Any]:
    return notification_json(row_of(notification))


@blueprint.route("/<uuid:notification_id>/read", methods=["PATCH"])
@blueprint.response(200, ReadSchema)
def read(notification_id: UUID) -> Response:
    """Mark a notification read."""
    return json_answer(_read_json(actions.mark_read(notification_id, current_identity())))


@blueprint.route("/<uuid:notification_id>/unread", methods=["PATCH"])
@blueprint.response(200, ReadSchema)
def unread(notification_id: UUID) -> Response:
    """Mark a notification unread."""
    return json_answer(_read_json(actions.mark_unread(notification_id, current_identity())))


def _read_json(notification: Notification) -> dict[str, Any]:
    read_at = notification.read_at
    return {"id": str(notification.id), "read": read_at is not None, "readAt": isoformat(read_at)}


@blueprint.route("/<uuid:notification_id>/archive", methods=["PATCH"])
@blueprint.response(200, NotificationSchema)
def archive(notification_id: UUID) -> Response:
    """Put a notification away; it counts as read."""
    return json_answer(_shown(actions.archive(notification_id, current_identity())))


@blueprint.route("/<uuid:notification_id>/unarchive", methods=["PATCH"])
@blueprint.response(200, NotificationSchema)
def unarchive(notification_id: UUID) -> Response:
    """Take a notification back into the inbox."""
    return json_answer(_shown(actions.unarchive(notification_id, current_identity())))


@blueprint.route("/<uuid:notification_id>/snooze", methods=["PATCH"])
@blueprint.arguments(SnoozeSchema)
@blueprint.response(200, NotificationSchema)
def snooze(body: dict[str, Any], notification_id: UUID) -> Response:
    """Put a notification off: it is not counted until then, and told again."""
    until = body["until"] if "until" in body else utcnow() + timedelta(seconds=body["seconds"])
    return json_answer(_shown(snoozing.snooze(notification_id, current_identity(), until)))


@blueprint.route("/<uuid:notification_id>/unsnooze", methods=["PATCH"])
@blueprint.response(200, NotificationSchema)
def unsnooze(notification_id: UUID) -> Response:
    """Have a notification that was put off back at once."""
    return json_answer(_shown(snoozing.unsnooze(notification_id, current_identity())))


@blueprint.route("/<uuid:notification_id>/actions/<key>", methods=["POST"])
@blueprint.response(200, NotificationSchema)
def act(notification_id: UUID, key: str) -> Response:
    """Press a button of a notification: the first to do so settles the matter for all who have it."""
    return json_answer(_shown(approvals.take_action(notification_id, key, current_identity())))


@blueprint.route("/<uuid:notification_id>", methods=["DELETE"])
@blueprint.response(200, MessageSchema)
def delete(notification_id: UUID) -> Response:
    """Delete a notification."""
    actions.delete_notification(notification_id, current_identity())
    return json_answer({"message": "Notification deleted"})
