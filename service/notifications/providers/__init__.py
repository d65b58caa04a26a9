"""The ways out of the house: who carries letters by which channel, one after the other until one takes them.

    sent = providers.send("email", letter)

A provider that keeps failing is left alone for a while (`health`). A letter goes at least once: one whose provider
took it and then broke off before saying so goes again, by the next provider or in the next attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from service.notifications.providers import health
from service.notifications.providers.letters import Away, Failed, Letter, Provider, Refused, Sent
from service.settings import Settings, current_settings

__all__ = ["Away", "Failed", "Letter", "Refused", "Sent", "is_on", "providers_of", "send"]

EMAIL, WHATSAPP, PUSH = "email", "whatsapp", "push"

log = structlog.get_logger(__name__)


def is_on(channel: str) -> bool:
    """Whether notifications leave by a channel at all, as the settings have it."""
    settings = current_settings()
    if channel == EMAIL:
        return settings.email_enabled and bool(settings.smtp_url or not settings.is_production)
    if channel == WHATSAPP:
        return bool(settings.whatsapp_providers)
    return True


def send(channel: str, letter: Letter) -> Sent:
    """Hand a letter to the first provider of the channel that takes it.

    Raises Refused when it can never reach its recipient, and Away when every provider failed or is being left alone.
    """
    letter = replace(letter, to=_address(channel, letter.to))
    refusal: Refused | None = None
    troubles: list[str] = []
    for provider in providers_of(channel):
        rest = health.rest_of(provider.place)
        if rest is not None:
            troubles.append(f"{provider.name} is left alone for {rest.seconds:.0f} s after {rest.error}")
            continue
        try:
            return Sent(provider.name, _sent_by(provider, letter))
        except Refused as refused:
            if not refused.may_go_elsewhere:
                raise
            refusal = refused
        except Failed as failure:
            log.warning(
                "provider_failed", provider=provider.name, message_id=str(letter.message_id), error=str(failure)
            )
            troubles.append(f"{provider.name}: {failure}")
    if refusal is not None and not troubles:
        raise refusal
    raise Away("; ".join(troubles) or f"No provider is set for {channel}.")


def _address(channel: str, to: str) -> str:
    # Here, for who checks addresses needs the refusals of this package.
    from service.notifications.addresses import email_address, phone_number

    if channel == EMAIL:
        return email_address(to)
    return phone_number(to, current_settings().phone_default_region) if channel == WHATSAPP else to


def _sent_by(provider: Provider, letter: Letter) -> str | None:
    try:
        provider_id = provider.send(letter)
    except Failed as failure:
        if failure.blames_provider:
            health.failed(provider.place, str(failure))
        raise
    except Refused:
        # A refusal is an answer.
        health.succeeded(provider.place)
        raise
    health.succeeded(provider.place)
    return provider_id


def providers_of(channel: str) -> Sequence[Provider]:
    """The providers of a channel in the order in which they are asked."""
    settings = current_settings()
    if channel == EMAIL:
        from service.notifications.providers.smtp import mail_servers

        return mail_servers(settings)
    if channel == WHATSAPP:
        return [_whatsapp(name, settings) for name in settings.whatsapp_providers]
    if channel == PUSH:
        return _pushers(settings)
    raise ValueError(f"no such channel: {channel}")


def _whatsapp(name: str, settings: Settings) -> Provider:
    # Each is imported where it is set: the web process and most installations need none of them.
    if name == "twilio":
        from service.notifications.providers.twilio import Twilio

        return Twilio(settings)
    if name == "waha":
        from service.notifications.providers.waha import Waha

        return Waha(settings)
    from service.notifications.providers.cloud_api import CloudApi

    return CloudApi(settings)


def _pushers(settings: Settings) -> Sequence[Provider]:
    from service.notifications.providers.web_push import WebPush

    if not settings.push_apprise_urls:
        return [WebPush(settings)]
    from service.notifications.providers.apprise import AppriseServices

    return [WebPush(settings), AppriseServices(settings)]
