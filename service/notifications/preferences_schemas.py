"""Shapes of preferences, quiet hours and tenants' defaults."""

from __future__ import annotations

import re
from typing import Any

import marshmallow as ma
from marshmallow import validate

from service.accounts.schemas import Text
from service.notifications.preferences import CHANNELS, DIGESTS

TYPE_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


def _type() -> Text:
    return Text(
        required=True,
        validate=validate.Regexp(TYPE_NAME.pattern + r"\Z", error="Must be a word such as job_status."),
        metadata={
            "description": "`job_status`, `webhooks`, `approvals`, `alerts`, `system`, or the category of what is sent"
        },
    )


def _channel() -> ma.fields.String:
    return ma.fields.String(required=True, validate=validate.OneOf(CHANNELS))


def _digest(**options: Any) -> ma.fields.String:
    return ma.fields.String(
        validate=validate.OneOf(DIGESTS),
        metadata={"description": "Gathered until the next full hour, or until 08:00 of your time zone"},
        **options,
    )


class PreferenceSchema(ma.Schema):
    """Whether notifications of a type come by a channel, and how they are gathered."""

    id = ma.fields.UUID(required=True)
    notificationType = ma.fields.String(required=True)
    channel = ma.fields.String(required=True)
    enabled = ma.fields.Boolean(required=True)
    digest = _digest(required=True)
    isCritical = ma.fields.Boolean(required=True, metadata={"description": "Goes out at any hour and cannot be muted"})
    isInherited = ma.fields.Boolean(
        required=True, metadata={"description": "Not your own choice: follows your organization's default"}
    )


class PreferenceListSchema(ma.Schema):
    """All preferences of a user, and what holds where there are none."""

    data = ma.fields.List(ma.fields.Nested(PreferenceSchema), required=True)


class PreferenceChangeSchema(ma.Schema):
    """What to change of a preference."""

    enabled = ma.fields.Boolean()
    digest = _digest()


class NewPreferenceSchema(ma.Schema):
    """A preference, there or not."""

    notificationType = _type()
    channel = _channel()
    enabled = ma.fields.Boolean(required=True)
    digest = _digest()


def _time(meaning: str) -> ma.fields.String:
    return ma.fields.String(
        required=True,
        allow_none=True,
        validate=validate.Regexp(CLOCK.pattern + r"\Z", error="Must be a time such as 22:00."),
        metadata={"description": meaning},
    )


class NewQuietHoursSchema(ma.Schema):
    """When nothing goes out but what is critical, by the clock of your time zone; nulls: never."""

    start = _time("Such as 22:00")
    end = _time("Such as 07:00; earlier than `start`: of the next day")

    @ma.pre_load
    def _none(self, document: Any, **_: Any) -> Any:
        return {"start": None, "end": None} if document is None else document

    @ma.validates_schema
    def _are_both(self, fields: dict[str, Any], **_: Any) -> None:
        if (fields["start"] is None) is not (fields["end"] is None):
            raise ma.ValidationError("Both times are needed.", "end" if fields["end"] is None else "start")


class QuietHoursSchema(ma.Schema):
    """When nothing goes out but what is critical, by the clock of your time zone."""

    start = _time("Such as 22:00; null: never")
    end = _time("Such as 07:00")
    timezone = ma.fields.String(required=True)


class DefaultSchema(ma.Schema):
    """What a tenant's users get where they have no preference of their own."""

    notificationType = _type()
    channel = _channel()
    enabled = ma.fields.Boolean(required=True)


class DefaultListSchema(ma.Schema):
    """The defaults of a tenant."""

    data = ma.fields.List(ma.fields.Nested(DefaultSchema), required=True)
