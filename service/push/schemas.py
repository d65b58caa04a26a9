"""Shapes of the push API."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode
from collections.abc import Callable

import marshmallow as ma
from cryptography.hazmat.primitives.asymmetric import ec
from marshmallow import validate

from service.webhooks.guard import MAX_URL_LENGTH

AUTH_BYTES = 16


def _bytes(text: str) -> bytes:
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise ma.ValidationError("Not URL-safe base64.") from None


def _point(text: str) -> None:
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), _bytes(text))
    except ValueError:
        raise ma.ValidationError("Not a point on P-256.") from None


def _secret(text: str) -> None:
    if len(_bytes(text)) != AUTH_BYTES:
        raise ma.ValidationError(f"Not {AUTH_BYTES} bytes.")


def _key(check: Callable[[str], None], longest: int) -> ma.fields.String:
    return ma.fields.String(required=True, validate=[validate.Length(1, longest), check])


class SubscriptionKeysSchema(ma.Schema):
    """The keys of a browser, in URL-safe base64."""

    p256dh = _key(_point, 100)
    auth = _key(_secret, 30)


class NewSubscriptionSchema(ma.Schema):
    """A browser's `PushSubscription`, as its `toJSON()` gives it."""

    endpoint = ma.fields.String(required=True, validate=validate.Length(1, MAX_URL_LENGTH))
    expirationTime = ma.fields.Raw(allow_none=True, metadata={"description": "Not used: push services tell the end"})
    keys = ma.fields.Nested(SubscriptionKeysSchema, required=True)


class EndpointSchema(ma.Schema):
    """A subscription by the address that its browser knows it by."""

    endpoint = ma.fields.String(required=True, validate=validate.Length(1, MAX_URL_LENGTH))


class SubscriptionSchema(ma.Schema):
    """A browser that takes pushes."""

    id = ma.fields.UUID(required=True)
    endpoint = ma.fields.String(required=True)
    userAgent = ma.fields.String(required=True, allow_none=True)
    createdAt = ma.fields.DateTime(required=True)


class SubscriptionListSchema(ma.Schema):
    """A user's browsers, the newest first."""

    data = ma.fields.List(ma.fields.Nested(SubscriptionSchema), required=True)


class KeySchema(ma.Schema):
    """The platform's public key."""

    publicKey = ma.fields.String(required=True, metadata={"description": "applicationServerKey, URL-safe base64"})
