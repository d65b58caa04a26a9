"""Shapes of the notifications API."""

from __future__ import annotations

import marshmallow as ma

from service.pagination import LongListArguments, PaginationSchema


class NotificationSchema(ma.Schema):
    """An entry of the inbox."""

    id = ma.fields.UUID(required=True)
    type = ma.fields.String(required=True)
    category = ma.fields.String(required=True)
    title = ma.fields.String(required=True)
    message = ma.fields.String(required=True)
    data = ma.fields.Dict(required=True)
    read = ma.fields.Boolean(required=True)
    readAt = ma.fields.DateTime(required=True, allow_none=True)
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

    unread = ma.fields.Boolean()
    type = ma.fields.String()


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


class PreferenceSchema(ma.Schema):
    """Whether notifications of a type come by a channel."""

    id = ma.fields.UUID(required=True)
    notificationType = ma.fields.String(required=True)
    channel = ma.fields.String(required=True)
    enabled = ma.fields.Boolean(required=True)


class PreferenceListSchema(ma.Schema):
    """All preferences of a user."""

    data = ma.fields.List(ma.fields.Nested(PreferenceSchema), required=True)


class PreferenceChangeSchema(ma.Schema):
    """Switch a preference on or off."""

    enabled = ma.fields.Boolean(required=True)
