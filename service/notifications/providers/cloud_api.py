"""WhatsApp by Meta's Cloud API: https://developers.facebook.com/docs/whatsapp/cloud-api (messages, error codes)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.notifications.providers.http import Answer, Bearer, post
from service.notifications.providers.letters import Failed, Letter, Refused
from service.notifications.providers.whatsapp import whatsapp_text
from service.settings import Settings

LONGEST_TEXT = 4096
REASONS = {
    131021: "bad_address",  # the sender's own number
    131026: "bad_address",  # not on WhatsApp, or never agreed to its terms
    131030: "bad_address",  # not on the list of a test number
    131047: "needs_template",  # not heard from for 24 hours
    131050: "opted_out",
}
# Too much at once for this recipient.
PAIR_LIMIT = 131056
# Token, permissions, limits, payment, an account that is locked, and troubles of their own.
ABOUT_PROVIDER = frozenset(
    {0, 1, 2, 3, 4, 10, 33, 190, 368, 80007, 130429, 131000, 131005, 131016, 131031, 131042, 131048, 131057}
    | {133000, 133004, 133005, 133006, 133010}
    | set(range(200, 300))
)


class CloudApi:
    """The Cloud API's messages."""

    name = "cloud"

    def __init__(self, settings: Settings) -> None:
        self.place = settings.whatsapp_cloud_url
        self._token = settings.whatsapp_cloud_token
        self._phone_id = settings.whatsapp_cloud_phone_id

    def send(self, letter: Letter) -> str | None:
        """Post the message; its `wamid`. Raises Refused or Failed."""
        answer = post(
            f"{self.place}/{self._phone_id}/messages",
            self.place,
            auth=Bearer(self._token),
            json={
                "messaging_product": "whatsapp",
                "recipient_type": "individual",
                "to": letter.to.removeprefix("+"),
                "type": "text",
                "text": {"preview_url": False, "body": whatsapp_text(letter, LONGEST_TEXT)},
            },
        )
        if not answer.is_success:
            raise _judged(answer)
        messages = answer.document.get("messages") or [{}]
        return str(messages[0]["id"]) if "id" in messages[0] else None


def _judged(answer: Answer) -> Exception:
    error: Mapping[str, Any] = answer.document.get("error") or {}
    code = error.get("code")
    said = f"{answer.status} {error.get('message', answer.excerpt)}"
    if code in REASONS:
        return Refused(REASONS[code], said)
    if code == PAIR_LIMIT:
        return Failed(said, blames_provider=False)
    if code in ABOUT_PROVIDER or (code is None and answer.is_about_provider) or answer.status >= 500:
        return Failed(said)
    return Refused("refused", said)
