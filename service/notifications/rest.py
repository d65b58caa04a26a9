"""`/api/notifications`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response
from flask_smorest import Blueprint

from service.accounts.identity import current_identity
from service.clock import isoformat
from service.notifications import actions, queries
from service.notifications.counts import unread_count
from service.notifications.models import Notification
from service.notifications.schemas import (
    CountSchema,
    InboxFilterSchema,
    InboxSchema,
    MessageSchema,
    PreferenceChangeSchema,
    PreferenceListSchema,
    PreferenceSchema,
    ReadSchema,
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
    return json_answer(
        queries.inbox(current_identity(), page, unread=arguments.get("unread"), type_=arguments.get("type"))
    )


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


@blueprint.route("/<uuid:notification_id>", methods=["DELETE"])
@blueprint.response(200, MessageSchema)
def delete(notification_id: UUID) -> Response:
    """Delete a notification."""
    actions.delete_notification(notification_id, current_identity())
    return json_answer({"message": "Notification deleted"})


@blueprint.route("/preferences", methods=["GET"])
@blueprint.response(200, PreferenceListSchema)
def list_preferences() -> Response:
    """List which types of notification come by which channel."""
    return json_answer({"data": queries.preferences(current_identity().user_id)})


@blueprint.route("/preferences/<uuid:preference_id>", methods=["PATCH"])
@blueprint.arguments(PreferenceChangeSchema)
@blueprint.response(200, PreferenceSchema)
def set_preference(body: dict[str, Any], preference_id: UUID) -> Response:
    """Switch a preference on or off."""
    preference = actions.set_preference(preference_id, current_identity(), body["enabled"])
    return json_answer(queries.preference_json(preference))
