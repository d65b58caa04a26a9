"""Mails: their words, and the way out of the house."""

from __future__ import annotations

import os
import smtplib
import ssl
from collections.abc import Callable, Mapping
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit
from uuid import UUID
from zoneinfo import ZoneInfo

from service.accounts.models import PasswordReset, User
from service.accounts.reset_tokens import reset_token
from service.clock import utcnow
from service.database import transaction
from service.settings import current_settings

if TYPE_CHECKING:
    from service.notifications.channel_messages import DueMessage

PASSWORD_RESET = "password_reset"  # noqa: S105 - the name of a template
NOTICE = "notice"

# For each exchange with the mail server.
TIMEOUT_SECONDS = 10.0
SMTPS_PORT, SUBMISSION_PORT, SMTP_PORT = 465, 587, 25


class MailError(Exception):
    """The mail could not be handed over; the message says why, for the operator."""


class MessageObsolete(Exception):
    """What the message was about is no more, so it is not sent."""


def render(message: DueMessage) -> EmailMessage:
    """The mail of a message, as text; raises MessageObsolete."""
    with transaction() as session:
        user = session.get(User, message.user_id)
        if user is None or not user.is_active:
            raise MessageObsolete("The account has been deactivated.")
        subject, text = TEMPLATES[message.template](user, message.data)
        to = user.email
    mail = EmailMessage()
    mail["From"] = current_settings().mail_from
    mail["To"] = to
    mail["Subject"] = subject
    mail["Date"] = format_datetime(utcnow())
    # The same in every attempt, so that a mail sent twice can be known for what it is.
    mail["Message-ID"] = f"<{message.id}@{urlsplit(current_settings().public_url).hostname or 'localhost'}>"
    mail["Auto-Submitted"] = "auto-generated"
    # Quoted-printable would break a long link in two for everybody who reads the source.
    mail.set_content(text, cte="7bit" if text.isascii() else None)
    return mail


def _password_reset(user: User, data: Mapping[str, Any]) -> tuple[str, str]:
    with transaction() as session:
        reset = session.get(PasswordReset, UUID(data["resetId"]))
    if reset is None or reset.used_at is not None or reset.expires_at <= utcnow():
        raise MessageObsolete("The link has run out or has been used.")
    until = reset.expires_at.astimezone(ZoneInfo(user.timezone))
    link = f"{current_settings().public_url}/reset-password?token={reset_token(reset.id, user.password_hash)}"
    text = f"""Hello {user.username},

somebody, probably you, has asked for a new password for your account.
Set it here, until {until:%H:%M} ({user.timezone}):

{link}

If it was not you, there is nothing to do: your password stays as it is.
"""
    return "Set a new password", text


def _notice(user: User, data: Mapping[str, Any]) -> tuple[str, str]:
    return data["subject"], f"Hello {user.username},\n\n{data['text']}\n\n{current_settings().public_url}\n"


TEMPLATES: Mapping[str, Callable[[User, Mapping[str, Any]], tuple[str, str]]] = {
    PASSWORD_RESET: _password_reset,
    NOTICE: _notice,
}


def deliver(mail: EmailMessage) -> str:
    """Hand a mail over, or keep it in a file where no mail server is set; its Message-ID. Raises MailError."""
    settings = current_settings()
    if settings.smtp_url:
        _send(mail, settings.smtp_url)
    elif settings.is_production:
        raise MailError("SMTP_URL is not set: no mail can be sent.")
    else:
        _keep(mail, settings.var_dir / "mail")
    return str(mail["Message-ID"])


def _keep(mail: EmailMessage, folder: Path) -> None:
    """Write the mail to a file that only its owner can read: it may hold a link that opens an account."""
    name = str(mail["Message-ID"]).strip("<>").partition("@")[0]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(os.open(folder / f"{name}.eml", flags, 0o600), "wb") as file:
            file.write(mail.as_bytes(policy=policy.SMTPUTF8))
    except OSError as error:
        raise MailError(f"The mail could not be kept: {error}") from error


def _send(mail: EmailMessage, smtp_url: str) -> None:
    try:
        url = urlsplit(smtp_url)
        with _connect(url) as server:
            if url.scheme == "smtp":
                _encrypt(server, url)
            if url.username:
                server.login(unquote(url.username), unquote(url.password or ""))
            server.send_message(mail)
    # ValueError: a port that is no number, an address that no header can hold.
    except (OSError, smtplib.SMTPException, ValueError) as error:
        raise MailError(f"{type(error).__name__}: {error}") from error


def _connect(url: SplitResult) -> smtplib.SMTP:
    host = url.hostname or "localhost"
    if url.scheme == "smtps":
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(host, url.port or SMTPS_PORT, timeout=TIMEOUT_SECONDS, context=context)
    if url.scheme != "smtp":
        raise MailError("SMTP_URL must begin with smtp:// or smtps://.")
    port = url.port or (SUBMISSION_PORT if url.username else SMTP_PORT)
    return smtplib.SMTP(host, port, timeout=TIMEOUT_SECONDS)


def _encrypt(server: smtplib.SMTP, url: SplitResult) -> None:
    """Use STARTTLS where it is offered; a password goes to a server with a good certificate, or to this machine."""
    server.ehlo_or_helo_if_needed()
    if server.has_extn("starttls"):
        context = ssl.create_default_context()
        if not url.username:
            # As mail servers do among themselves: many have a certificate of their own making, and whoever could
            # show us a false one could as well hide that STARTTLS is offered.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        server.starttls(context=context)
    elif url.username and not _is_loopback(url.hostname or "localhost"):
        raise MailError("The mail server offers no STARTTLS, and a password is not sent in the clear.")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
