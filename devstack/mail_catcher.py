"""The mail server of the local stack: it takes every mail and delivers none; a page shows what it took.

Both listen on this machine only. The page's address carries a key, for mails hold links that open accounts.
"""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from devstack.keys import kept_password
from devstack.mail_page import MailPage
from devstack.mail_store import MailStore
from devstack.ports import free_port

_LARGEST_MAIL = 32 * 1024 * 1024


class Catcher:
    """What the mail server does with a mail; tests derive servers from it that refuse some."""

    def __init__(self, store: MailStore) -> None:
        self.store = store

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        """Keep a mail."""
        del server, session
        assert isinstance(envelope.content, bytes)
        self.store.add(envelope.content, envelope.rcpt_tos)
        return "250 Kept, and sent nowhere"


class MailCatcher:
    """A mail server and its page; both end with the `with` block."""

    def __init__(
        self,
        folder: Path,
        *,
        page_port: int | None = None,
        smtp_port: int | None = None,
        handler: type[Catcher] = Catcher,
        **server: Any,
    ) -> None:
        self.store = MailStore(folder)
        self.handler = handler(self.store)
        self.smtp_port = smtp_port or free_port()
        self._server = server
        self._controller: Controller | None = None
        self._page = MailPage(self.store, page_port or free_port(), kept_password(folder / "key"))

    @property
    def smtp_url(self) -> str:
        """What SMTP_URL is to be."""
        return f"smtp://127.0.0.1:{self.smtp_port}"

    @property
    def page_url(self) -> str:
        """Where the mails are shown."""
        return self._page.url

    @property
    def mails(self) -> list[EmailMessage]:
        """What was taken, the oldest first."""
        return [kept.message for kept in reversed(self.store.all())]

    def start(self) -> None:
        """Listen."""
        self.listen()
        self._page.start()

    def stop(self) -> None:
        """End both."""
        self.hang_up()
        self._page.stop()

    def listen(self) -> None:
        """Take mails, again after `hang_up`."""
        self._controller = Controller(
            self.handler, hostname="127.0.0.1", port=self.smtp_port, data_size_limit=_LARGEST_MAIL, **self._server
        )
        self._controller.start()

    def hang_up(self) -> None:
        """Be away, as a mail server that is restarted."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
