"""Shapes of the notification templates API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import marshmallow as ma
from marshmallow import validate

from service.notification_templates import locales
from service.notification_templates.builtin import CHANNELS, PUBLIC_URL
from service.notification_templates.dialect import RESERVED
from service.notification_templates.sandbox import MAXIMUM_SOURCE
from service.pagination import PageArguments, PaginationSchema

MAXIMUM_VARIABLES = 100
MAXIMUM_SUBJECT = 1_000

# As sends write it too.
_ALIASES = {"inApp": "in_app"}
_NOT_BLANK = validate.Regexp(r"[\s\S]*\S", error="Must not be blank.")
_NAME = validate.Regexp(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z", error="Up to 100 letters, digits, dots, dashes and _.")
_VARIABLE = validate.Regexp(
    r"(?!__)[A-Za-z_][A-Za-z0-9_]{0,63}\Z", error="Up to 64 letters, digits and underscores, no digit first."
)
_ABOUT_VALUES = {"description": "Values by name", "example": {"username": "ada"}}
_ABOUT_CHANNEL = {"description": "email where the template has it, else its first one; html is only there for email"}


class Locale(ma.fields.String):
    """A language by its BCP 47 tag, in the form in which it is stored."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        tag = locales.normalised(super()._deserialize(value, *args, **kwargs))
        if tag is None:
            raise ma.ValidationError("Not a language tag such as en or de-AT.")
        return tag


class Channel(ma.fields.String):
    """A channel by its name."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(validate=validate.OneOf(CHANNELS), **kwargs)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, *args, **kwargs)
        return _ALIASES.get(text, text)


def _different(values: list[str]) -> None:
    if len(set(values)) < len(values):
        raise ma.ValidationError("One of them is there twice.")


def _not_reserved(names: Iterable[str]) -> None:
    if taken := sorted({*RESERVED, PUBLIC_URL} & set(names)):
        raise ma.ValidationError(f"Reserved: {', '.join(taken)}.")


def _source(**kwargs: Any) -> ma.fields.String:
    rules = [validate.Length(1, MAXIMUM_SOURCE), _NOT_BLANK]
    return ma.fields.String(validate=rules, metadata={"example": "Hello {{ username }}"}, **kwargs)


def _subject(**kwargs: Any) -> ma.fields.String:
    return ma.fields.String(validate=[validate.Length(1, MAXIMUM_SUBJECT), _NOT_BLANK], **kwargs)


class NotificationTemplateChangeSchema(ma.Schema):
    """What the next version says otherwise; `channel` is short for one of `channels`."""

    channel = Channel()
    channels = ma.fields.List(Channel(), validate=[validate.Length(1, len(CHANNELS)), _different])
    subject = _subject()
    body = _source()
    html = _source(allow_none=True)
    variables = ma.fields.List(
        ma.fields.String(validate=_VARIABLE),
        validate=[validate.Length(max=MAXIMUM_VARIABLES), _different, _not_reserved],
        metadata={"description": "Names of what a send has to give", "example": ["username"]},
    )

    @ma.validates_schema
    def _one_way_to_say_it(self, data: dict[str, Any], **_: Any) -> None:
        if "channel" in data and "channels" in data:
            raise ma.ValidationError("Give channel or channels.", "channel")

    @ma.post_load
    def _with_channels(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        if "channel" in data:
            data["channels"] = [data.pop("channel")]
        return data


class TemplateContentSchema(NotificationTemplateChangeSchema):
    """What a whole version says."""

    subject = _subject(required=True)
    body = _source(required=True)
    html = _source(allow_none=True, load_default=None)
    variables = ma.fields.List(
        ma.fields.String(validate=_VARIABLE),
        load_default=list,
        validate=[validate.Length(max=MAXIMUM_VARIABLES), _different, _not_reserved],
        metadata={"description": "Names of what a send has to give", "example": ["username"]},
    )

    @ma.validates_schema
    def _has_channels(self, data: dict[str, Any], **_: Any) -> None:
        if "channel" not in data and "channels" not in data:
            raise ma.ValidationError("Missing data for required field.", "channels")


class NewNotificationTemplateSchema(TemplateContentSchema):
    """A template."""

    name = ma.fields.String(required=True, validate=_NAME)
    locale = Locale(load_default=locales.DEFAULT)


class NotificationTemplateReplacementSchema(TemplateContentSchema):
    """The next version; name and locale may be said again and stay what they are."""

    name = ma.fields.String()
    locale = Locale()


class NotificationTemplateSchema(ma.Schema):
    """A version of a template."""

    id = ma.fields.UUID(required=True, metadata={"description": "Of the template, the same for all versions"})
    name = ma.fields.String(required=True)
    locale = ma.fields.String(required=True)
    version = ma.fields.Integer(required=True)
    channel = ma.fields.String(
        required=True, validate=validate.OneOf(CHANNELS), metadata={"description": "The first of `channels`"}
    )
    channels = ma.fields.List(ma.fields.String(validate=validate.OneOf(CHANNELS)), required=True)
    subject = ma.fields.String(required=True)
    body = ma.fields.String(required=True)
    html = ma.fields.String(required=True, allow_none=True)
    variables = ma.fields.List(ma.fields.String(), required=True)
    createdBy = ma.fields.UUID(required=True, allow_none=True)
    createdAt = ma.fields.DateTime(required=True)


class NotificationTemplatePageSchema(ma.Schema):
    """A page of templates."""

    data = ma.fields.List(ma.fields.Nested(NotificationTemplateSchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)


class BuiltinTemplateSchema(ma.Schema):
    """A message of the platform; a template of the same name takes its place."""

    name = ma.fields.String(required=True)
    description = ma.fields.String(required=True)
    locale = ma.fields.String(required=True)
    channels = ma.fields.List(ma.fields.String(), required=True)
    subject = ma.fields.String(required=True)
    body = ma.fields.String(required=True)
    html = ma.fields.String(required=True, allow_none=True)
    variables = ma.fields.List(ma.fields.String(), required=True)
    optionalVariables = ma.fields.List(ma.fields.String(), required=True)


class BuiltinTemplatesSchema(ma.Schema):
    """What the platform itself says."""

    data = ma.fields.List(ma.fields.Nested(BuiltinTemplateSchema), required=True)


class NotificationTemplateFilterSchema(PageArguments):
    """The filters of the list of templates."""

    name = ma.fields.String(validate=validate.Length(1, 100))
    locale = Locale()


class TemplateVersionSchema(ma.Schema):
    """Which version; the newest if none is given."""

    class Meta:
        """As lists do."""

        unknown = ma.EXCLUDE

    version = ma.fields.Integer(load_default=None, validate=validate.Range(1, 2**31 - 1))


class TemplateValuesSchema(ma.Schema):
    """Values to render with."""

    variables = ma.fields.Dict(keys=ma.fields.String(), load_default=dict, metadata=_ABOUT_VALUES)
    channel = Channel(load_default=None, metadata=_ABOUT_CHANNEL)


class TemplatePreviewSchema(ma.Schema):
    """A template that is not kept, and values to render it with."""

    subject = _subject(required=True)
    body = _source(required=True)
    html = _source(allow_none=True, load_default=None)
    variables = ma.fields.Dict(keys=ma.fields.String(), load_default=dict, metadata=_ABOUT_VALUES)
    channel = Channel(load_default="email")


class RenderedTemplateSchema(ma.Schema):
    """What became of a template."""

    subject = ma.fields.String(required=True)
    text = ma.fields.String(required=True)
    html = ma.fields.String(required=True, allow_none=True)


class TestMessageSchema(ma.Schema):
    """A message that is on its way to you."""

    messageId = ma.fields.UUID(required=True)
