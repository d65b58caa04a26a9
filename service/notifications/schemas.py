"""Shapes of the notifications API."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from service.pagination import LongListArguments, PaginationSchema

ACTION_KINDS = ("link", "action")


class ActionSchema(ma.Schema):
    """A button of a notification: a link to follow, or something that the platform does when it is pressed."""

    key = ma.fields.String(required=True, metadata={"description": "Its name in POST …/actions/{key}"})
    label = ma.fields.String(required=True)
    kind = ma.fields.String(required=True, validate=ma.validate.OneOf(ACTION_KINDS))
    url = ma.fields.String(metadata={"description": "Of a link"})
    style = ma.fields.String(metadata={"description": "How it may look, for example `primary` or `danger`"})


class NotificationSchema(ma.Schema):
    """An entry of the inbox."""

    id = ma.fields.UUID(required=True)
    type = ma.fields.String(required=True)
    category = ma.fields.String(required=True)
    title = ma.fields.String(required=True)
    message = ma.fields.String(required=True)
    data = ma.fields.Dict(required=True)
    actions = ma.fields.List(ma.fields.Nested(ActionSchema), required=True, allow_none=True)
    resolution = ma.fields.String(
        required=True, allow_none=True, metadata={"description": "The key of the action that settled the matter"}
    )
    read = ma.fields.Boolean(required=True)
    readAt = ma.fields.DateTime(required=True, allow_none=True)
    archived = ma.fields.Boolean(required=True)
    archivedAt = ma.fields.DateTime(required=True, allow_none=True)
    snoozedUntil = ma.fields.DateTime(required=True, allow_none=True)
    expiresAt = ma.fields.DateTime(required=True, allow_none=True)
    sendId = ma.fields.UUID(
        required=True, allow_none=True, metadata={"description": "What it was sent with, where somebody sent it"}
    )
    createdAt = ma.fields.DateTime(required=True)


class InboxSchema(ma.Schema):
    """A page of the inbox, with how much of the whole is unread."""

    data = ma.fields.List(ma.fields.Nested(NotificationSchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)
    unreadCount = ma.fields.Integer(required=True)
    unreadVersion = ma.fields.Integer(
        required=True,
        metadata={"description": "Grows with each change: of two counts the one with the higher is newer."},
    )


class UnreadCountSchema(ma.Schema):
    """How much of the inbox is unread."""

    count = ma.fields.Integer(required=True)
    version = ma.fields.Integer(
        required=True,
        metadata={"description": "Grows with each change: of two counts the one with the higher is newer."},
    )


class InboxFilterSchema(LongListArguments):
    """The filters of the inbox."""

    unread = ma.fields.Boolean(metadata={"description": "Only the unread ones, or only those that were read"})
    type = ma.fields.String()
    category = ma.fields.String()
    archived = ma.fields.Boolean(load_default=False, metadata={"description": "Those that were put away, instead"})
    snoozed = ma.fields.Boolean(load_default=False, metadata={"description": "Those that were put off, instead"})
    since = ma.fields.AwareDateTime(metadata={"description": "Of this time or later"})
    until = ma.fields.AwareDateTime(metadata={"description": "Before this time"})


class SnoozeSchema(ma.Schema):
    """Until when, or for how long: one of them."""

    until = ma.fields.AwareDateTime(metadata={"description": "Within a year, and while notifications are kept"})
    seconds = ma.fields.Integer(validate=ma.validate.Range(1, 365 * 86_400))

    @ma.validates_schema
    def _says_when(self, data: dict[str, Any], **_: Any) -> None:
        if ("until" in data) == ("seconds" in data):
            raise ma.ValidationError("Give either until or seconds.", "until")


class ReadSchema(ma.Schema):
    """Whether a notification is read."""

    id = ma.fields.UUID(required=True)
    read = ma.fields.Boolean(required=True)
    readAt = ma.fields.DateTime(required=True, allow_none=True)


class CountSchema(ma.Schema):
    """How many were changed."""

    count = ma.fields.Integer(required=True)


class MessageSchema(ma.Schema):
    """What was done."""

    message = ma.fields.String(required=True)
