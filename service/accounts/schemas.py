"""Shapes of the accounts API."""

from __future__ import annotations

import re
from typing import Any

import marshmallow as ma
from email_validator import EmailNotValidError
from marshmallow import validate

from service.accounts.roles import ROLES
from service.notifications.addresses import parse_address, phone_number
from service.notifications.providers.letters import Refused
from service.pagination import PageArguments, PaginationSchema
from service.settings import current_settings
from service.timezones import check_timezone

USERNAME = re.compile(r"[A-Za-z0-9._-]{3,64}")
SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 256
LONGEST_TOKEN = 512
LONGEST_LOGIN = 254


class Text(ma.fields.String):
    """A string that UTF-8 and PostgreSQL can hold: JSON can also write halves of characters, and NUL."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, *args, **kwargs)
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise ma.ValidationError("This text holds characters that cannot be stored.")
        return text


class EmailAddress(Text):
    """An e-mail address in its normal form, in lower case; names that only a local network knows are fine."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, *args, **kwargs)
        try:
            return parse_address(text).normalized.lower()
        except EmailNotValidError:
            raise ma.ValidationError("Not a valid e-mail address.") from None


class PhoneNumber(Text):
    """A phone number, kept in E.164; without a country code it is of the region in the settings."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, *args, **kwargs)
        try:
            return phone_number(text, current_settings().phone_default_region)
        except Refused:
            raise ma.ValidationError("Not a valid phone number; E.164 is, such as +4915112345678.") from None


def _new_password() -> Text:
    return Text(required=True, load_only=True, validate=validate.Length(SHORTEST_PASSWORD, LONGEST_PASSWORD))


def _token(data_key: str | None = None) -> Text:
    return Text(required=True, data_key=data_key, validate=validate.Length(1, LONGEST_TOKEN))


class UserSchema(ma.Schema):
    """A user."""

    id = ma.fields.UUID(required=True)
    organizationId = ma.fields.UUID(required=True)
    username = ma.fields.String(required=True)
    email = ma.fields.String(required=True)
    phone = ma.fields.String(required=True, allow_none=True)
    timezone = ma.fields.String(required=True)
    roles = ma.fields.List(ma.fields.String(validate=validate.OneOf(ROLES)), required=True)
    isActive = ma.fields.Boolean(required=True)
    createdAt = ma.fields.DateTime(required=True)
    updatedAt = ma.fields.DateTime(required=True)


class AccountSchema(UserSchema):
    """The user behind the request."""

    webhookUrl = ma.fields.String(required=True, allow_none=True)


class RegistrationSchema(ma.Schema):
    """Somebody who wants an account."""

    username = Text(
        required=True,
        validate=validate.Regexp(
            f"^{USERNAME.pattern}\\Z", error="3 to 64 letters, digits, dots, dashes or underscores."
        ),
    )
    email = EmailAddress(required=True, metadata={"format": "email"})
    password = _new_password()

    @ma.validates_schema
    def _no_easy_guess(self, data: dict[str, Any], **_: Any) -> None:
        if data["password"].lower() == data["username"].lower():
            raise ma.ValidationError("The password must differ from the user name.", "password")


class LoginSchema(ma.Schema):
    """Who wants to log in, by user name or e-mail address."""

    username = Text(required=True, validate=validate.Length(1, LONGEST_LOGIN))
    password = Text(required=True, load_only=True, validate=validate.Length(1, LONGEST_PASSWORD))


class RefreshSchema(ma.Schema):
    """A refresh token."""

    refresh_token = _token("refreshToken")


class TicketSchema(ma.Schema):
    """A ticket for one stream."""

    ticket = ma.fields.String(required=True)
    expiresIn = ma.fields.Integer(required=True, metadata={"description": "Seconds"})


class SessionSchema(ma.Schema):
    """What a client needs to act as a user."""

    accessToken = ma.fields.String(required=True)
    refreshToken = ma.fields.String(required=True, metadata={"description": "Good for one refresh"})
    expiresIn = ma.fields.Integer(required=True, metadata={"description": "Seconds the access token lives"})
    user = ma.fields.Nested(AccountSchema, required=True)


class AccountChangeSchema(ma.Schema):
    """What is to change about the user behind the request."""

    email = EmailAddress(metadata={"format": "email"})
    phone = PhoneNumber(allow_none=True)
    timezone = Text(validate=check_timezone)
    webhook_url = Text(
        data_key="webhookUrl",
        allow_none=True,
        validate=validate.Length(1, 2048),
        metadata={"description": "The legacy URL that is told of completed jobs"},
    )


class ForgotSchema(ma.Schema):
    """Whose password is forgotten."""

    email = EmailAddress(required=True, metadata={"format": "email"})


class ForgotAnswerSchema(ma.Schema):
    """What happens next."""

    message = ma.fields.String(required=True)


class ResetSchema(ma.Schema):
    """A new password, and the token of the link in the mail."""

    token = _token()
    password = _new_password()


class UserFilterSchema(PageArguments):
    """The filters of the list of users."""

    q = Text(validate=validate.Length(1, 254), metadata={"description": "Part of the name or address"})
    role = ma.fields.String(validate=validate.OneOf(ROLES))
    is_active = ma.fields.Boolean(data_key="isActive")


class UserPageSchema(ma.Schema):
    """A page of users."""

    data = ma.fields.List(ma.fields.Nested(UserSchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)


class UserChangeSchema(ma.Schema):
    """What an administrator changes about a user."""

    roles = ma.fields.List(ma.fields.String(validate=validate.OneOf(ROLES)), validate=validate.Length(1, len(ROLES)))
    is_active = ma.fields.Boolean(data_key="isActive")
