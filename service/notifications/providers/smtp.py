"""E-mail by SMTP: the mail of a letter, and mail servers spoken to over connections that are kept for a while."""

from __future__ import annotations

import os
import re
import smtplib
from collections.abc import Sequence
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from pathlib import Path
from urllib.parse import urlsplit

from service.clock import utcnow
from service.notifications.providers.letters import Failed, Letter, Provider, Refused
from service.notifications.providers.smtp_connections import OK, SERVICE_NOT_AVAILABLE, conversation
from service.settings import Settings, current_settings

# The server wants a password, or another one: nothing that the recipient has done.
WANTS_AUTHENTICATION = frozenset({530, 534, 535, 538})
PERMANENT = 500
WILL_FORWARD = 251
INTERNATIONAL = ("SMTPUTF8", "BODY=8BITMIME")
# RFC 3463: what lies under 5.7 is forbidden by somebody's rules; the address may be fine.
FORBIDDEN = re.compile(r"5\.7\.")
# Headers are not folded: a link broken in two is none. 7bit: not every server takes more.
LONGEST_LINE = 998
POLICY = policy.SMTP.clone(max_line_length=LONGEST_LINE, cte_type="7bit")


def compose(letter: Letter) -> EmailMessage:
    """The mail of a letter: text, or text and HTML; its address has been checked (`addresses.email_address`)."""
    settings = current_settings()
    mail = EmailMessage(policy=POLICY)
    mail["From"] = settings.mail_from
    mail["To"] = letter.to
    mail["Subject"] = _one_line(letter.subject)
    mail["Date"] = format_datetime(utcnow())
    # The same in every attempt, so that a mail sent twice can be known for what it is.
    mail["Message-ID"] = f"<{letter.message_id}@{urlsplit(settings.public_url).hostname or 'localhost'}>"
    mail["Auto-Submitted"] = "auto-generated"
    if letter.unsubscribe_url:
        # RFC 8058: the reader's mail program posts to it without asking.
        mail["List-Unsubscribe"] = f"<{letter.unsubscribe_url}>"
        mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    # Quoted-printable would break a long link in two for everybody who reads the source.
    mail.set_content(letter.text, cte="7bit" if _fits(letter.text) else None)
    if letter.html is not None:
        mail.add_alternative(letter.html, subtype="html")
    return mail


def _one_line(text: str) -> str:
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _fits(text: str) -> bool:
    return text.isascii() and all(len(line) <= LONGEST_LINE for line in text.splitlines())


def mail_servers(settings: Settings) -> Sequence[Provider]:
    """The mail servers of SMTP_URL in order; without one a folder, and in production nothing."""
    urls = [url.strip() for url in settings.smtp_url.split(",") if url.strip()]
    if urls:
        return [MailServer(url, "smtp" if number == 1 else f"smtp-{number}") for number, url in enumerate(urls, 1)]
    return [NoServer()] if settings.is_production else [MailFolder(settings.var_dir / "mail")]


class NoServer:
    """What stands where a mail server should."""

    name = "smtp"
    place = "smtp"

    def send(self, letter: Letter) -> str | None:
        """Raises Failed."""
        del letter
        raise Failed("SMTP_URL is not set: no mail can be sent.", blames_provider=False)


class MailFolder:
    """Keeps mails in files, where no mail server is set and nobody waits for them but a developer."""

    name = "folder"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.place = str(folder)

    def send(self, letter: Letter) -> str | None:
        """Write the mail to a file that only its owner can read: it may hold a link that opens an account."""
        mail = compose(letter)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            with os.fdopen(os.open(self._folder / f"{letter.message_id}.eml", flags, 0o600), "wb") as file:
                file.write(mail.as_bytes(policy=POLICY.clone(utf8=True)))
        except OSError as error:
            raise Failed(f"The mail could not be kept: {error}") from error
        return str(mail["Message-ID"])


class MailServer:
    """A mail server by its URL, `smtp://[user:password@]host[:port]` or `smtps://…`."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self._url = url
        # Without name and password.
        self.place = urlsplit(url).netloc.rpartition("@")[2]

    def send(self, letter: Letter) -> str | None:
        """Hand the mail over; its Message-ID. Raises Refused or Failed."""
        mail = compose(letter)
        sender = parseaddr(current_settings().mail_from)[1]
        needs_utf8 = not (sender + letter.to).isascii()
        try:
            with conversation(self._url, sender, INTERNATIONAL if needs_utf8 else ()) as server:
                _hand_over(server, letter.to, mail.as_bytes(policy=POLICY.clone(utf8=needs_utf8)))
        except smtplib.SMTPNotSupportedError as error:
            if not needs_utf8:
                raise Failed(f"{type(error).__name__}: {error}") from error
            raise Refused("bad_address", "The mail server takes addresses in ASCII only.") from error
        # ValueError: a port that is no number.
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise Failed(f"{type(error).__name__}: {error}") from error
        return str(mail["Message-ID"])


def _hand_over(server: smtplib.SMTP, to: str, content: bytes) -> None:
    """One mail on a connection on which its sender was accepted."""
    code, answer = server.rcpt(to)
    if code >= PERMANENT and code not in WANTS_AUTHENTICATION:
        is_forbidden = FORBIDDEN.match(answer.decode(errors="replace"))
        raise Refused("refused" if is_forbidden else "bad_address", _said(code, answer))
    if code not in (OK, WILL_FORWARD):
        # Of this recipient: a greylist, a full mailbox. The server has nothing else against us.
        is_ours = code in WANTS_AUTHENTICATION or code == SERVICE_NOT_AVAILABLE
        raise Failed(_said(code, answer), blames_provider=is_ours)
    try:
        code, answer = server.data(content)
    except smtplib.SMTPDataError as error:
        code, answer = error.smtp_code, _bytes(error.smtp_error)
    if code != OK:
        raise Failed(_said(code, answer), blames_provider=code < PERMANENT)


def _said(code: int, answer: bytes) -> str:
    return f"{code} {answer.decode(errors='replace')}"


def _bytes(answer: bytes | str) -> bytes:
    return answer.encode() if isinstance(answer, str) else answer
