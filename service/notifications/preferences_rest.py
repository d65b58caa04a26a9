"""`/api/notifications/preferences`, `/api/notifications/quiet-hours` and `/api/admin/notification-defaults`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response
from flask_smorest import Blueprint

from service.accounts.identity import current_identity, requires_role
from service.accounts.roles import ADMIN
from service.notifications.preferences import (
    change_preference,
    default_json,
    defaults_of,
    preference_json,
    preferences_of,
    put_default,
    put_preference,
)
from service.notifications.preferences_schemas import (
    DefaultListSchema,
    DefaultSchema,
    NewPreferenceSchema,
    NewQuietHoursSchema,
    PreferenceChangeSchema,
    PreferenceListSchema,
    PreferenceSchema,
    QuietHoursSchema,
)
from service.notifications.quiet_hours import quiet_hours_of, set_quiet_hours
from service.web import json_answer

blueprint = Blueprint(
    "notification-preferences", __name__, url_prefix="/api", description="What comes by which channel, and when"
)


@blueprint.route("/notifications/preferences", methods=["GET"])
@blueprint.response(200, PreferenceListSchema)
def list_preferences() -> Response:
    """List which types of notification come by which channel.

    Also what holds where you have not chosen (`isInherited`): for what the platform tells, and for what your
    organization has a default for.
    """
    return json_answer({"data": preferences_of(current_identity())})


@blueprint.route("/notifications/preferences", methods=["PUT"])
@blueprint.arguments(NewPreferenceSchema)
@blueprint.response(200, PreferenceSchema)
def put(body: dict[str, Any]) -> Response:
    """Set a preference, also for a type that has none yet; 422 `critical_type` for what cannot be muted.

    There may be preferences for 100 types.
    """
    type_, channel = body.pop("notificationType"), body.pop("channel")
    preference = put_preference(current_identity().user_id, type_, channel, body)
    return json_answer(preference_json(preference))


@blueprint.route("/notifications/preferences/<uuid:preference_id>", methods=["PATCH"])
@blueprint.arguments(PreferenceChangeSchema)
@blueprint.response(200, PreferenceSchema)
def change(body: dict[str, Any], preference_id: UUID) -> Response:
    """Switch a preference on or off, or gather its messages; 422 `critical_type` for what cannot be muted.

    What was inherited is your own choice from then on, under the same id.
    """
    return json_answer(preference_json(change_preference(preference_id, current_identity(), body)))


@blueprint.route("/notifications/quiet-hours", methods=["GET"])
@blueprint.response(200, QuietHoursSchema)
def read_quiet_hours() -> Response:
    """Read when nothing goes out to you but what is critical."""
    return json_answer(quiet_hours_of(current_identity().user_id))


@blueprint.route("/notifications/quiet-hours", methods=["PUT"])
@blueprint.arguments(NewQuietHoursSchema)
@blueprint.response(200, QuietHoursSchema)
def put_quiet_hours(body: dict[str, Any]) -> Response:
    """Set when nothing goes out to you but what is critical: what comes in these hours is sent when they end.

    `null`, or nulls for both times: no quiet hours.
    """
    hours = None if body["start"] is None else body
    return json_answer(set_quiet_hours(current_identity().user_id, hours))


@blueprint.route("/admin/notification-defaults", methods=["GET"])
@requires_role(ADMIN)
@blueprint.response(200, DefaultListSchema)
def list_defaults() -> Response:
    """List what the users of your organization get where they have no preference of their own."""
    return json_answer({"data": defaults_of(current_identity().organization_id)})


@blueprint.route("/admin/notification-defaults", methods=["PUT"])
@requires_role(ADMIN)
@blueprint.arguments(DefaultSchema)
@blueprint.response(200, DefaultSchema)
def set_default(body: dict[str, Any]) -> Response:
    """Set what the users of your organization get where they have no preference of their own."""
    organization_id = current_identity().organization_id
    default = put_default(organization_id, body["notificationType"], body["channel"], body["enabled"])
    return json_answer(default_json(default))
