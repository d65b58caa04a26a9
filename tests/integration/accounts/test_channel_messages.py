"""The outbox of mails, with a real mail server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from devstack.ports import free_port
from service.notifications import channel_messages
from service.notifications.channel_messages import (
    claim_due,
    messages_are_due,
    record_failed,
    record_sent,
    send_due_messages,
)
from service.notifications.providers import Sent, smtp_connections


class Mailbox:
    """Keeps what a mail server is given; `refusals` are answered first."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.refusals: list[str] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        self.mails.append(envelope)
        return "250 OK"

    def __call__(self, server: Any, session: Any, envelope: Any, mechanism: str, auth_data: Any) -> AuthResult:
        self.logins.append((auth_data.login, auth_data.password))
        return AuthResult(success=auth_data.password == b"p@ss/word", handled=False)


@pytest.fixture
def mailbox(change_settings: Any) -> Iterator[Mailbox]:
    """A mail server without STARTTLS that the application uses."""
    box = Mailbox()
    server = Controller(
        box,
        hostname="127.0.0.1",
        port=free_port(),
        authenticator=box,
        auth_require_tls=False,
        auth_exclude_mechanism=[],
    )
    server.start()
    change_settings(smtp_url=f"smtp://127.0.0.1:{server.port}")
    box.port = server.port  # type: ignore[attr-defined]
    yield box
    server.stop()


@pytest.fixture
def message(post, make_user, sql, in_app):
    """A mail to be sent, and nothing else that is due; gives what its row says now."""
    sql("DELETE FROM channel_messages")
    user = make_user()
    post("password/forgot", email=f"{user.username}@example.com")

    def row():
        return dict(sql("SELECT * FROM channel_messages WHERE user_id = :id", id=user.id)[0])

    row.address = f"{user.username}@example.com"
    return row


@pytest.fixture
def later(sql):
    """Lets every waiting message become due."""
    return lambda: sql("UPDATE channel_messages SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL")


def test_a_message_is_sent_once(mailbox, message):
    assert messages_are_due()
    assert send_due_messages() == 1
    assert not messages_are_due()
    assert send_due_messages() == 0
    (envelope,) = mailbox.mails
    assert envelope.mail_from == "carillon@localhost"
    assert envelope.rcpt_tos == [message.address]
    assert b"/reset-password?token=" in envelope.content
    row = message()
    assert (row["status"], row["attempts"], row["error"], row["next_attempt_at"]) == ("sent", 1, None, None)
    assert row["provider_id"] == f"<{row['id']}@localhost>"
    assert f"Message-ID: {row['provider_id']}".encode() in envelope.content


def test_a_server_that_refuses_for_a_while_is_tried_again(mailbox, message, later, sql):
    mailbox.refusals = ["451 later", "554 no"]
    assert send_due_messages() == 0
    row = message()
    assert (row["status"], row["attempts"]) == ("pending", 1)
    assert "451" in row["error"]
    assert not messages_are_due()
    waits = sql("SELECT next_attempt_at - now() BETWEEN '50 s' AND '60 s' AS a_minute FROM channel_messages")
    assert waits[0]["a_minute"]
    later()
    assert send_due_messages() == 0
    later()
    assert send_due_messages() == 1
    row = message()
    assert (row["status"], row["attempts"], row["error"]) == ("sent", 3, None)
    assert len(mailbox.mails) == 1


def test_after_five_failures_it_is_over(message, later, change_settings):
    change_settings(smtp_url=f"smtp://127.0.0.1:{free_port()}")
    for attempt in range(1, 6):
        assert message()["status"] == "pending"
        later()
        assert send_due_messages() == 0
        assert message()["attempts"] == attempt
    row = message()
    assert (row["status"], row["next_attempt_at"]) == ("failed", None)
    assert "ConnectionRefusedError" in row["error"]


def test_two_senders_do_not_take_the_same_message(app, message, at_once):
    def claim():
        with app.app_context():
            return len(claim_due(1))

    assert sorted(at_once(4, claim)) == [0, 0, 0, 1]
    assert message()["status"] == "sending"


def test_a_sender_that_died_is_succeeded_and_can_write_no_more(message, later):
    (first,) = claim_due(10)
    assert claim_due(10) == []
    later()
    (second,) = claim_due(10)
    assert (second.id, second.attempts) == (first.id, 2)
    record_sent(first, Sent("smtp", "stale"))
    record_failed(first, "stale")
    assert message()["status"] == "sending"
    record_sent(second, Sent("smtp", None))
    assert message()["status"] == "sent"


def test_a_message_whose_senders_all_died_ends_visibly(message, later):
    for _ in range(5):
        later()
        assert len(claim_due(1)) == 1
    later()
    assert messages_are_due()
    assert send_due_messages() == 0
    row = message()
    assert (row["status"], row["next_attempt_at"]) == ("failed", None)
    assert "died" in row["error"]


def test_a_broken_message_does_not_keep_the_others(mailbox, message, sql):
    sql(
        """INSERT INTO channel_messages
            (id, user_id, channel, template, data, status, attempts, created_at, next_attempt_at)
        SELECT gen_random_uuid(), user_id, 'email', 'no such template', '{}', 'pending', 0, now(),
            now() - interval '1 h' FROM channel_messages"""
    )
    assert send_due_messages() == 1
    (broken,) = sql("SELECT status, error FROM channel_messages WHERE template = 'no such template'")
    assert (broken["status"], broken["error"]) == ("pending", "TemplateNotFound")


def test_in_production_a_missing_mail_server_is_said(message, change_settings):
    change_settings(smtp_url="", environment="production")
    assert send_due_messages() == 0
    assert message()["error"] == "smtp: SMTP_URL is not set: no mail can be sent."


def test_a_password_is_sent_to_this_machine_in_the_clear(mailbox, message, change_settings):
    change_settings(smtp_url=f"smtp://us%40er:p%40ss%2Fword@127.0.0.1:{mailbox.port}")
    assert send_due_messages() == 1
    assert mailbox.logins == [(b"us@er", b"p@ss/word")]


def test_a_wrong_password_is_an_error_that_does_not_show_it(mailbox, message, change_settings):
    change_settings(smtp_url=f"smtp://user:secret-word@127.0.0.1:{mailbox.port}")
    assert send_due_messages() == 0
    assert "SMTPAuthenticationError" in message()["error"]
    assert "secret-word" not in message()["error"]


def test_a_password_does_not_leave_the_machine_in_the_clear(mailbox, message, change_settings, monkeypatch):
    monkeypatch.setattr(smtp_connections, "_is_loopback", lambda host: False)
    change_settings(smtp_url=f"smtp://user:p%40ss%2Fword@127.0.0.1:{mailbox.port}")
    assert send_due_messages() == 0
    assert "STARTTLS" in message()["error"]
    assert mailbox.logins == []


@pytest.mark.parametrize("url", ["http://mail.example.com", "smtp://127.0.0.1:port", "nonsense"])
def test_nonsense_for_a_mail_server_is_said(message, change_settings, url):
    change_settings(smtp_url=url)
    assert send_due_messages() == 0
    assert message()["status"] == "pending"
    assert message()["error"]


def test_the_lease_is_longer_than_a_slow_conversation():
    # Greeting, EHLO, STARTTLS, EHLO, AUTH twice, MAIL, RCPT, DATA, its end, QUIT.
    assert channel_messages.LEASE.total_seconds() > 11 * smtp_connections.TIMEOUT_SECONDS
