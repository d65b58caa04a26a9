"""WhatsApp by Twilio: https://www.twilio.com/docs/messaging/api/message-resource and …/docs/api/errors."""

from __future__ import annotations

from service.notifications.providers.http import Answer, post
from service.notifications.providers.letters import Failed, Letter, Refused
from service.notifications.providers.whatsapp import whatsapp_text
from service.settings import Settings

LONGEST_TEXT = 1600
REASONS = {
    21211: "bad_address",  # no phone number
    21217: "bad_address",  # looks like none
    21265: "bad_address",  # a short code
    21614: "bad_address",  # no mobile number
    63003: "bad_address",  # not on WhatsApp
    63024: "bad_address",  # no recipient that WhatsApp knows
    21610: "opted_out",  # the recipient said STOP
    63016: "needs_template",  # not heard from for 24 hours
}
# Our sender is the fault, not the letter.
OF_THE_SENDER = frozenset({21212, 21603, 21606, 21608, 63007})


class Twilio:
    """Twilio's Messages API."""

    name = "twilio"

    def __init__(self, settings: Settings) -> None:
        self.place = settings.twilio_url
        self._account = settings.twilio_account_sid
        self._token = settings.twilio_auth_token
        self._from = settings.twilio_from.removeprefix("whatsapp:")

    def send(self, letter: Letter) -> str | None:
        """Post the message; its `sid`. Raises Refused or Failed."""
        answer = post(
            f"{self.place}/2010-04-01/Accounts/{self._account}/Messages.json",
            self.place,
            auth=(self._account, self._token),
            form={
                "To": f"whatsapp:{letter.to}",
                "From": f"whatsapp:{self._from}",
                "Body": whatsapp_text(letter, LONGEST_TEXT),
            },
        )
        if answer.is_success:
            return str(answer.document["sid"]) if "sid" in answer.document else None
        raise _judged(answer)


def _judged(answer: Answer) -> Exception:
    code = answer.document.get("code")
    said = f"{answer.status} {code or ''} {answer.document.get('message', answer.excerpt)}"
    if isinstance(code, int) and code in REASONS:
        return Refused(REASONS[code], said)
    if answer.is_about_provider or code in OF_THE_SENDER:
        return Failed(said)
    return Refused("refused", said)
