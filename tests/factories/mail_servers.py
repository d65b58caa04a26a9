"""Mail servers that refuse, for a while or for good."""

from __future__ import annotations

from typing import Any

from aiosmtpd.smtp import AuthResult

from devstack.mail_catcher import Catcher
from devstack.mail_store import MailStore


class MoodyCatcher(Catcher):
    """Takes mails unless told otherwise; `steps` are the commands it heard, in order."""

    def __init__(self, store: MailStore) -> None:
        super().__init__(store)
        #: Answers to RCPT by address.
        self.refused: dict[str, str] = {}
        #: Answers to the next mails' content.
        self.refusals: list[str] = []
        #: Answers to the next MAIL commands; 421 hangs up.
        self.moods: list[str] = []
        self.steps: list[str] = []
        self.logins: list[tuple[bytes, bytes]] = []

    async def handle_EHLO(self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]) -> Any:
        self.steps.append("EHLO")
        session.host_name = hostname
        return responses

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        self.steps.append("MAIL")
        if self.moods:
            mood = self.moods.pop(0)
            if mood.startswith("421"):
                server.transport.write(mood.encode() + b"\r\n")
                server.transport.close()
            return mood
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        self.steps.append("RCPT")
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_NOOP(self, server: Any, session: Any, envelope: Any, arg: str) -> str:
        self.steps.append("NOOP")
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.steps.append("DATA")
        if self.refusals:
            return self.refusals.pop(0)
        return await super().handle_DATA(server, session, envelope)

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, auth_data: Any) -> AuthResult:
        """Takes the password `p@ss/word`."""
        self.logins.append((auth_data.login, auth_data.password))
        return AuthResult(success=auth_data.password == b"p@ss/word", handled=False)
