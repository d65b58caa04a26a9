"""WhatsApp by a WAHA server of one's own: https://waha.devlike.pro/docs/how-to/send-messages/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.notifications.providers.http import post
from service.notifications.providers.letters import Failed, Letter, Refused
from service.notifications.providers.whatsapp import whatsapp_text
from service.settings import Settings

LONGEST_TEXT = 4096
# The session is not ready: it starts, or waits for somebody to scan its code.
NOT_WORKING = 422


class Waha:
    """WAHA's sendText. It does not tell numbers that are not on WhatsApp from its own troubles."""

    name = "waha"

    def __init__(self, settings: Settings) -> None:
        self.place = settings.waha_url or ""
        self._session = settings.waha_session
        self._headers = {"X-Api-Key": settings.waha_api_key} if settings.waha_api_key else {}

    def send(self, letter: Letter) -> str | None:
        """Post the message; its id. Raises Refused or Failed."""
        answer = post(
            f"{self.place}/api/sendText",
            self.place,
            headers=self._headers,
            json={
                "session": self._session,
                "chatId": f"{letter.to.removeprefix('+')}@c.us",
                "text": whatsapp_text(letter, LONGEST_TEXT),
            },
        )
        if answer.is_success:
            return _message_id(answer.document)
        said = f"{answer.status} {answer.document.get('message') or answer.document.get('error') or answer.excerpt}"
        if answer.is_about_provider or answer.status == NOT_WORKING:
            raise Failed(said)
        raise Refused("refused", said)


def _message_id(message: Mapping[str, Any]) -> str | None:
    """Each of WAHA's engines has a shape of its own: `id`, `id._serialized` or `key.id`."""
    given = message.get("id") or message.get("key")
    if isinstance(given, Mapping):
        given = given.get("_serialized") or given.get("id")
    return given if isinstance(given, str) else None
