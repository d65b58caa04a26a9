"""The words of a message: of what was sent to an audience, or of the platform itself, as its channel speaks them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from service.accounts.models import PasswordReset, User
from service.accounts.reset_tokens import reset_token
from service.clock import utcnow
from service.database import transaction
from service.notification_templates.builtin import PASSWORD_RESET
from service.notification_templates.rendering import Rendered, render
from service.notifications.addresses import email_address, phone_number
from service.notifications.channel_messages import EMAIL, PUSH, WHATSAPP, DueMessage, MessageObsolete
from service.notifications.models import NotificationSend
from service.notifications.preferences import is_critical_type
from service.notifications.providers import Letter, Refused
from service.notifications.unsubscribe import unsubscribe_url
from service.settings import current_settings

# What every template may say of whom it speaks to.
USERNAME = "username"
# The word in place of a template for what a send says.
SEND = "send"
# And for words that were made before the message was queued: its data are subject, text and html.
RENDERED = "rendered"


# In place of a recipient's name, where one text is made for many: whoever writes it to them puts the name there.
# Without letters, which filters of a template would change.
ANYBODY = "\ue000\ue001\ue000"


def words_of(
    organization_id: UUID,
    template: str,
    locale: str | None,
    variables: Mapping[str, Any] | None,
    channel: str,
    *,
    username: str = ANYBODY,
) -> Rendered:
    """What a tenant's template says by a channel; raises TemplateNotFound, TemplateVariablesMissing, TemplateFailed."""
    return render(organization_id, template, locale, {**(variables or {}), USERNAME: username}, channel)


def words_of_send(send: NotificationSend, channel: str, username: str = ANYBODY) -> Rendered:
    """What a send says by a channel; raises as `words_of` where its template has changed and cannot any more."""
    if send.template_name is None:
        return Rendered(send.title, send.message, None)
    name, locale = send.template_name, send.locale
    return words_of(send.organization_id, name, locale, send.variables, channel, username=username)


def compose(message: DueMessage) -> Letter:
    """The letter of a message; raises MessageObsolete where nothing is to be said any more."""
    with transaction() as session:
        user = session.get(User, message.user_id)
        if user is None or not user.is_active:
            raise MessageObsolete("deactivated", "The account has been deactivated.")
        address = _address(user, message.channel)
        if message.template == SEND:
            words, data = _of_send(message, user)
        else:
            words, data = _of_platform(message, user), message.data
    return Letter(message.id, address, words.subject, words.text, words.html, data, _way_out(message))


def _way_out(message: DueMessage) -> str | None:
    """The link by which the reader of a mail is rid of its kind, where that can be."""
    kind = message.notification_type
    if message.channel != EMAIL or kind is None or is_critical_type(kind):
        return None
    return unsubscribe_url(message.user_id, kind, EMAIL)


def _address(user: User, channel: str) -> str:
    """Where a channel finds somebody, in the form that its providers want; raises MessageObsolete."""
    given = {EMAIL: user.email, WHATSAPP: user.phone, PUSH: str(user.id)}[channel]
    if not given:
        raise MessageObsolete("no_address", "There is no address any more.")
    try:
        if channel == EMAIL:
            return email_address(given)
        return phone_number(given, current_settings().phone_default_region) if channel == WHATSAPP else given
    except Refused as refusal:
        raise MessageObsolete(refusal.reason, str(refusal)) from None


def _of_send(message: DueMessage, user: User) -> tuple[Rendered, Mapping[str, Any]]:
    with transaction() as session:
        send = session.get(NotificationSend, message.send_id)
    if send is None:
        raise MessageObsolete("gone", "What it was part of has been deleted.")
    if send.cancelled_at is not None:
        raise MessageObsolete("cancelled", "It was cancelled.")
    if send.expires_at is not None and send.expires_at <= utcnow():
        raise MessageObsolete("expired", "It has expired.")
    data = {**send.data, "type": send.type, "category": send.category, "sendId": str(send.id)}
    return words_of_send(send, message.channel, user.username), data


def _of_platform(message: DueMessage, user: User) -> Rendered:
    if message.template == RENDERED:
        return Rendered(**message.data)
    variables = _reset(message.data, user) if message.template == PASSWORD_RESET else message.data
    return words_of(user.organization_id, message.template, None, variables, message.channel, username=user.username)


def _reset(data: Mapping[str, Any], user: User) -> dict[str, Any]:
    """What the mail about a new password says; its link is made here, so that it is stored nowhere."""
    with transaction() as session:
        reset = session.get(PasswordReset, UUID(data["resetId"]))
    if reset is None or reset.used_at is not None or reset.expires_at <= utcnow():
        raise MessageObsolete("obsolete", "The link has run out or has been used.")
    token = reset_token(reset.id, user.password_hash)
    return {
        "link": f"{current_settings().public_url}/reset-password?token={token}",
        "until": f"{reset.expires_at.astimezone(ZoneInfo(user.timezone)):%H:%M}",
        "timezone": user.timezone,
    }
