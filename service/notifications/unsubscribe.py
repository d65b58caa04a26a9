"""Links in mails that switch a kind of notification off, for whoever holds them (RFC 8058).

They know no time: a reader may open an old mail. They end when SECRET_KEY changes.
"""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple
from uuid import UUID

from service.crypto import keyed_digest
from service.errors import NotFound
from service.settings import current_settings

PATH = "/api/notifications/unsubscribe"
# Keeps this digest from being of use elsewhere.
PURPOSE = "unsubscribe:"


class UnsubscribeLinkInvalid(NotFound):
    """This link is not one of ours, or not whole."""

    code = "unsubscribe_link_invalid"


class Subscription(NamedTuple):
    """What a link switches off."""

    user_id: UUID
    notification_type: str
    channel: str


def unsubscribe_url(user_id: UUID, notification_type: str, channel: str) -> str:
    """The link for a mail of this kind to this user."""
    claim = _encoded(json.dumps([str(user_id), notification_type, channel]).encode())
    return f"{current_settings().public_url}{PATH}?token={claim}.{_signature(claim)}"


def subscription_of(token: str) -> Subscription:
    """What a link's token is about; raises UnsubscribeLinkInvalid."""
    claim, _, signature = token.partition(".")
    if not hmac.compare_digest(signature.encode(), _signature(claim).encode()):
        raise UnsubscribeLinkInvalid
    user_id, notification_type, channel = json.loads(_decoded(claim))
    return Subscription(UUID(user_id), notification_type, channel)


def _signature(claim: str) -> str:
    return _encoded(keyed_digest(PURPOSE + claim))


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
