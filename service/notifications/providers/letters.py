"""What providers are given, and what may come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from uuid import UUID

# Reasons of refusals that another provider of the channel may do without.
ELSEWHERE = frozenset({"no_device", "needs_template"})


@dataclass(frozen=True, slots=True)
class Letter:
    """A message ready to go.

    `message_id`: the same in every attempt. `to`: an e-mail address, a phone number in E.164, or for pushes the id of
    the user. `html`: for mails. `data`: JSON that travels along with a push. `unsubscribe_url`: for mails that their
    reader may switch off.
    """

    message_id: UUID
    to: str
    subject: str
    text: str
    html: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    unsubscribe_url: str | None = None


class Sent(NamedTuple):
    """Who took a letter, and by which name he knows it."""

    provider: str
    provider_id: str | None


class Refused(Exception):
    """This letter will never reach this recipient; `reason` is a stable word, the text says what was answered.

    Reasons: `bad_address`, `no_device`, `opted_out`, `needs_template`, `refused`.
    """

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message or reason)
        self.reason = reason

    @property
    def may_go_elsewhere(self) -> bool:
        """Whether another provider is worth asking."""
        return self.reason in ELSEWHERE


class Away(Exception):
    """No provider of the channel could be reached, or each is being left alone; the message says of each why."""


class Failed(Exception):
    """A provider could not take the letter now; `blames_provider`: whether it would fail with others as well."""

    def __init__(self, message: str, *, blames_provider: bool = True) -> None:
        super().__init__(message)
        self.blames_provider = blames_provider


class Provider(Protocol):
    """A way out of the house. `name` stands in traces; `place` is what its health is noted by, without secrets."""

    name: str
    place: str

    def send(self, letter: Letter) -> str | None:
        """Hand a letter over; the provider's id of it. Raises Refused or Failed."""
        ...
