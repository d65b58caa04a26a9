"""The last mails that the local stack's mail server took, one file each."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cached_property
from pathlib import Path
from threading import Lock

MAILS_KEPT = 200


@dataclass(frozen=True)
class KeptMail:
    """A mail; `name` is its file's, which begins with the time, `recipients` those of the envelope."""

    name: str
    source: bytes

    @cached_property
    def message(self) -> EmailMessage:
        """The mail, read."""
        return message_from_bytes(self.source, policy=policy.default)

    @property
    def arrived_at(self) -> datetime:
        """When it was taken."""
        return datetime.fromtimestamp(int(self.name.partition("-")[0]) / 1e9, UTC)

    def part(self, kind: str) -> str | None:
        """Its text (`plain`) or its HTML (`html`); None without one."""
        body = self.message.get_body((kind,))
        return None if body is None else str(body.get_content())


class MailStore:
    """A folder that only its owner can read; it keeps the newest mails, over restarts too."""

    def __init__(self, folder: Path, limit: int = MAILS_KEPT) -> None:
        self._folder = folder
        self._limit = limit
        self._lock = Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def add(self, source: bytes, recipients: Sequence[str]) -> None:
        """Keep a mail; the oldest goes."""
        envelope = "".join(f"X-Envelope-To: {recipient}\r\n" for recipient in recipients).encode()
        with self._lock:
            name = f"{time.time_ns()}-{secrets.token_hex(4)}"
            file = os.open(self._folder / f"{name}.eml", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "wb") as stream:
                stream.write(envelope + source)
            for old in self._names()[self._limit :]:
                (self._folder / f"{old}.eml").unlink(missing_ok=True)

    def all(self) -> list[KeptMail]:
        """The mails, the newest first."""
        found = (self.get(name) for name in self._names())
        return [mail for mail in found if mail]

    def get(self, name: str) -> KeptMail | None:
        """A mail by its name."""
        if name not in self._names():
            return None
        try:
            return KeptMail(name, (self._folder / f"{name}.eml").read_bytes())
        except FileNotFoundError:
            # It made room in this moment.
            return None

    def _names(self) -> list[str]:
        return sorted((path.stem for path in self._folder.glob("[0-9]*-*.eml")), reverse=True)
