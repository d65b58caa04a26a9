"""Pushes through ntfy, Gotify, Telegram and the like, to the Apprise URLs of the installation: https://appriseit.com."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote
from uuid import UUID

from apprise import Apprise
from sqlalchemy import select

from service.accounts.models import User
from service.database import transaction
from service.notifications.providers.letters import Failed, Letter, Refused
from service.settings import Settings


class AppriseServices:
    """The services that operators named; one that takes the push is enough."""

    name = "apprise"
    place = "apprise"

    def __init__(self, settings: Settings) -> None:
        self._urls = settings.push_apprise_urls

    def send(self, letter: Letter) -> str | None:
        """Push to each service; they give no ids. Raises Refused or Failed."""
        with transaction() as session:
            username = session.scalar(select(User.username).where(User.id == UUID(letter.to)))
        if username is None:
            raise Refused("no_device", "There is no such user.")
        names = {"{username}": quote(username, safe=""), "{user_id}": letter.to}
        taken = [_notify(_filled_in(url, names), letter) for url in self._urls]
        if not any(taken):
            # Which of them, and why, is in the log: their addresses may hold passwords.
            raise Failed("None of the services took it.")
        return None


def _filled_in(url: str, names: Mapping[str, str]) -> str:
    for name, value in names.items():
        url = url.replace(name, value)
    return url


def _notify(url: str, letter: Letter) -> bool:
    service = Apprise.instantiate(url)
    return service is not None and bool(service.notify(title=letter.subject, body=letter.text))
