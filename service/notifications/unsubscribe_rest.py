"""`/api/notifications/unsubscribe`: what the links in mails lead to."""

from __future__ import annotations

from html import escape
from typing import Any

import marshmallow as ma
from flask import Response
from flask_smorest import Blueprint
from marshmallow import validate

from service.accounts.identity import public
from service.accounts.models import User
from service.audit.actions import record
from service.database import transaction
from service.notifications.preferences import set_preference_of
from service.notifications.unsubscribe import Subscription, UnsubscribeLinkInvalid, subscription_of

blueprint = Blueprint("unsubscribe", __name__, url_prefix="/api/notifications", description="Links in mails")

LONGEST_TOKEN = 1000
CHANNELS = {"email": "e-mail"}
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; margin: 4rem auto; max-width: 30rem; padding: 0 1rem; }}
button {{ font: inherit; padding: .5rem 1rem; }}</style></head>
<body><h1>{title}</h1><p>{text}</p>{form}</body></html>
"""
FORM = (
    '<form method="post"><input type="hidden" name="List-Unsubscribe" value="One-Click"><button>{label}</button></form>'
)


class TokenSchema(ma.Schema):
    """The token of a link."""

    token = ma.fields.String(required=True, validate=validate.Length(1, LONGEST_TOKEN))


@blueprint.route("/unsubscribe", methods=["GET"])
@public
@blueprint.doc(security=[])
@blueprint.arguments(TokenSchema, location="query")
@blueprint.response(200, {"type": "string"}, content_type="text/html")
def ask(arguments: dict[str, Any]) -> Response:
    """Ask, on a page with one button, whether a kind of notification is to be switched off."""
    subscription = subscription_of(arguments["token"])
    text = f"Shall no more notifications of this kind come by {_channel(subscription)}: {_kind(subscription)}?"
    return _page("Unsubscribe", text, FORM.format(label="Unsubscribe"))


@blueprint.route("/unsubscribe", methods=["POST"])
@public
@blueprint.doc(security=[])
@blueprint.arguments(TokenSchema, location="query")
@blueprint.response(200, {"type": "string"}, content_type="text/html")
def unsubscribe(arguments: dict[str, Any]) -> Response:
    """Switch a kind of notification off, as the button does, or a mail program by itself (RFC 8058)."""
    subscription = subscription_of(arguments["token"])
    _switch_off(subscription)
    text = f"No more notifications of this kind will come by {_channel(subscription)}: {_kind(subscription)}."
    return _page("Unsubscribed", text, "")


def _switch_off(subscription: Subscription) -> None:
    with transaction() as session:
        user = session.get(User, subscription.user_id)
        if user is None:
            raise UnsubscribeLinkInvalid
        set_preference_of(user.id, subscription.notification_type, subscription.channel, False)
        about = {"notificationType": subscription.notification_type, "channel": subscription.channel}
        record("preference.unsubscribe", "user", user.id, about, actor_id=user.id, organization_id=user.organization_id)


def _channel(subscription: Subscription) -> str:
    return escape(CHANNELS.get(subscription.channel, subscription.channel))


def _kind(subscription: Subscription) -> str:
    return escape(subscription.notification_type.replace("_", " "))


def _page(title: str, text: str, form: str) -> Response:
    page = PAGE.format(title=title, text=text, form=form)
    return Response(page, headers={"Content-Security-Policy": PAGE_POLICY}, mimetype="text/html")
