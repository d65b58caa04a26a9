"""Web push (RFC 8030, 8291, 8292): to each browser of a user, by the push service that the browser named.

The addresses are strangers' text, so pushes leave by the same guarded sender as webhooks.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from functools import cache
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from py_vapid import Vapid02
from pywebpush import WebPusher

from service.clock import utcnow
from service.notifications.providers.letters import Failed, Letter, Refused
from service.push.actions import forget_subscription
from service.push.keys import vapid_key
from service.push.queries import Device, devices_of
from service.settings import Settings, current_settings
from service.webhooks.guard import Guard
from service.webhooks.proxy import Proxy
from service.webhooks.sender import OutboundRequest, Sender, SendOutcome

# How long a push service keeps it for a browser that is off, and how long the platform's word to the service holds.
TTL_SECONDS = 86_400
CLAIM_SECONDS = 43_200
# Push services take 4,096 bytes, of which the encryption needs 103.
LONGEST_PAYLOAD = 3_900
TITLE_LENGTH, BODY_LENGTH = 200, 1_000
GONE = frozenset({404, 410})
LATER = frozenset({408, 425, 429})


class WebPush:
    """The browsers of a user."""

    name = "web_push"
    place = "web_push"

    def __init__(self, settings: Settings) -> None:
        self._contact = settings.push_contact

    def send(self, letter: Letter) -> str | None:
        """Push to every browser of the user; one that takes it is enough. Raises Refused or Failed."""
        devices = devices_of(UUID(letter.to))
        if not devices:
            raise Refused("no_device", "No browser takes pushes.")
        payload = payload_of(letter)
        signer = Vapid02(vapid_key(), {"no-strict": True})
        return _settled([self._push(each, payload, letter.message_id, signer) for each in devices])

    def _push(self, device: Device, payload: bytes, message_id: UUID, signer: Vapid02) -> SendOutcome:
        encoded = WebPusher({"endpoint": device.endpoint, "keys": device.keys}).encode(payload)
        outcome = _sender().send(
            OutboundRequest(
                device.endpoint,
                bytes(encoded["body"]),
                {
                    "Content-Type": "application/octet-stream",
                    "Content-Encoding": "aes128gcm",
                    "TTL": str(TTL_SECONDS),
                    "Urgency": "normal",
                    # A push that is sent twice replaces itself.
                    "Topic": urlsafe_b64encode(message_id.bytes).rstrip(b"=").decode(),
                    **self._authorization(device.endpoint, signer),
                },
            )
        )
        if outcome.status in GONE:
            forget_subscription(device.id)
        return outcome

    def _authorization(self, endpoint: str, signer: Vapid02) -> dict[str, str]:
        service = urlsplit(endpoint)
        claims = {
            "aud": f"{service.scheme}://{service.netloc}",
            "sub": self._contact,
            "exp": int(utcnow().timestamp()) + CLAIM_SECONDS,
        }
        signed: dict[str, str] = signer.sign(claims)
        return signed


def payload_of(letter: Letter) -> bytes:
    """`{id, title, body, data}` for the page's service worker; without the data where that is too long."""
    document = {
        "id": str(letter.message_id),
        "title": letter.subject[:TITLE_LENGTH],
        "body": letter.text[:BODY_LENGTH],
        "data": dict(letter.data),
    }
    text = json.dumps(document).encode()
    return text if len(text) <= LONGEST_PAYLOAD else _shortened(document)


def _shortened(document: dict[str, Any]) -> bytes:
    short = {**document, "title": document["title"][:80], "body": document["body"][:300], "data": {}}
    return json.dumps(short, ensure_ascii=False).encode()


def _settled(outcomes: Sequence[SendOutcome]) -> str | None:
    """What came of all browsers together: the id that the push service gave the first that took it."""
    for outcome in outcomes:
        if outcome.status is not None and 200 <= outcome.status < 300:
            return outcome.headers.get("location")
    troubles = [outcome for outcome in outcomes if outcome.status not in GONE]
    if not troubles:
        raise Refused("no_device", "No browser takes pushes any more.")
    said = "; ".join(_said(each) for each in troubles)
    if any(_may_pass(each) for each in troubles):
        # Of one stranger's push service; others may be well.
        raise Failed(said, blames_provider=False)
    raise Refused("refused", said)


def _may_pass(outcome: SendOutcome) -> bool:
    if outcome.status is None:
        return outcome.error_class != "blocked_address"
    return outcome.status in LATER or outcome.status >= 500


def _said(outcome: SendOutcome) -> str:
    return f"{outcome.error_class or outcome.status} {outcome.error or outcome.body[:200]}".strip()


@cache
def _sender() -> Sender:
    settings = current_settings()
    proxy = Proxy(settings.webhook_proxy_url) if settings.webhook_proxy_url else None
    return Sender(Guard(settings.webhook_networks), proxy=proxy)
