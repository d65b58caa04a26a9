"""A mail server: real SMTP on this machine, which can be away; it keeps what it took."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import policy
from email.parser import BytesHeaderParser
from typing import Any, Self

from aiosmtpd.controller import Controller

from devstack.ports import free_port
from tests.acceptance.waiting import until

_HEADERS = BytesHeaderParser(policy=policy.SMTP)


@dataclass(frozen=True)
class Mail:
    """A mail that was taken, for one recipient."""

    to: str
    subject: str
    message_id: str
    taken_at: float = field(default_factory=time.time)


class MailServer:
    """Takes every mail, at a port that stays the same."""

    def __init__(self) -> None:
        self.port = free_port()
        self._mails: defaultdict[str, list[Mail]] = defaultdict(list)
        self._controller: Controller | None = None
        self._answers = threading.Event()
        self._answers.set()
        self._unanswered = 0

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """What aiosmtpd calls with a mail."""
        mail = _HEADERS.parsebytes(envelope.content)
        subject = str(mail["Subject"])
        self._mails[subject] += [Mail(address, subject, str(mail["Message-ID"])) for address in envelope.rcpt_tos]
        # Who is counted has no answer before the block ends: one that may be on its way is not counted.
        if not self._answers.is_set():
            self._unanswered += 1
            await asyncio.to_thread(self._answers.wait)
        return "250 OK"

    @contextmanager
    def silent(self, senders: int) -> Iterator[None]:
        """So many mails were taken, and none who sends them knows it yet; in the block nobody is answered."""
        self._unanswered = 0
        self._answers.clear()
        try:
            until(lambda: self._unanswered >= senders, lambda: f"{senders} senders; {self._unanswered}")
            yield
        finally:
            self._answers.set()

    def start(self) -> None:
        """Take mails."""
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    def stop(self) -> None:
        """Be away."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def mails(self, subject: str, to: str | None = None) -> list[Mail]:
        """What came under a subject, in order: all, or for one address."""
        return [mail for mail in list(self._mails[subject]) if to in (None, mail.to)]

    def count(self, subject: str) -> int:
        """How many came under a subject, doubles among them."""
        return len(self._mails[subject])
