"""E-mail by real mail servers: what a mail holds, kept connections, refusals, failover."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from devstack.mail_catcher import MailCatcher
from devstack.ports import free_port
from service.ids import new_id
from service.notifications import providers
from service.notifications.providers import Away, Letter, Refused, health, smtp_connections
from tests.factories.mail_servers import MoodyCatcher

Change = Callable[..., None]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., MailCatcher]]:
    """Starts mail servers."""
    with ExitStack() as servers:
        yield lambda **options: servers.enter_context(
            MailCatcher(tmp_path / str(new_id()), handler=MoodyCatcher, **options)
        )
        smtp_connections.CONNECTIONS.clear()


@pytest.fixture
def server(start_server: Callable[..., MailCatcher], change_settings: Change) -> MailCatcher:
    """The mail server that the application uses."""
    catcher = start_server()
    change_settings(smtp_url=catcher.smtp_url)
    return catcher


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Providers rest for a moment only."""
    monkeypatch.setattr(health, "REST_SECONDS", 0.1)


def letter(to: str = "ann@example.com", **fields: Any) -> Letter:
    return Letter(**{"message_id": new_id(), "to": to, "subject": "Hello", "text": "A word.\n", **fields})


def test_a_mail_holds_text_and_html_and_how_to_be_rid_of_it(in_app: None, server: MailCatcher) -> None:
    link = "https://carillon.example.com/api/notifications/unsubscribe?token=" + "x" * 150
    sent = letter(html="<p>A <b>word</b>.</p>", unsubscribe_url=link, subject="Grüße")
    answer = providers.send("email", sent)
    (mail,) = server.mails
    assert answer == ("smtp", str(mail["Message-ID"])) == ("smtp", f"<{sent.message_id}@localhost>")
    assert (str(mail["To"]), str(mail["Subject"]), str(mail["Auto-Submitted"])) == (
        "ann@example.com",
        "Grüße",
        "auto-generated",
    )
    assert mail.get_content_type() == "multipart/alternative"
    assert [part.get_content().strip() for part in mail.iter_parts()] == ["A word.", "<p>A <b>word</b>.</p>"]
    # Mail programs read this header as it stands.
    assert f"List-Unsubscribe: <{link}>\r\n".encode() in server.store.all()[0].source
    assert str(mail["List-Unsubscribe-Post"]) == "List-Unsubscribe=One-Click"


def test_headers_cannot_be_smuggled_in(in_app: None, server: MailCatcher) -> None:
    providers.send("email", letter(subject="Hello\r\nBcc: victim@example.com\n\nBody"))
    (mail,) = server.mails
    assert str(mail["Subject"]) == "Hello Bcc: victim@example.com Body"
    assert mail["Bcc"] is None
    for address in (
        "ann@example.com\r\nRCPT TO:<victim@example.com>",
        "ann@example.com, b@example.com",
        "a b@c",
        "",
        "@",
    ):
        with pytest.raises(Refused) as refusal:
            providers.send("email", letter(address))
        assert refusal.value.reason == "bad_address"
    assert len(server.mails) == 1


def test_one_connection_serves_mail_after_mail(in_app: None, server: MailCatcher) -> None:
    for _ in range(3):
        providers.send("email", letter())
    assert server.handler.steps == ["EHLO", *["MAIL", "RCPT", "DATA"] * 3]


def test_a_connection_that_lay_idle_is_asked_whether_it_stands(
    in_app: None, server: MailCatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp_connections, "TRUSTED_SECONDS", 0.0)
    providers.send("email", letter())
    providers.send("email", letter())
    assert server.handler.steps == ["EHLO", "MAIL", "RCPT", "DATA", "NOOP", "MAIL", "RCPT", "DATA"]


def test_a_connection_that_the_server_gave_up_is_opened_anew(in_app: None, server: MailCatcher) -> None:
    providers.send("email", letter())
    server.hang_up()
    server.listen()
    providers.send("email", letter())
    server.handler.moods = ["421 Too many mails on this connection"]
    providers.send("email", letter())
    assert len(server.mails) == 3


def test_connections_are_closed_when_nobody_needs_them(
    in_app: None, server: MailCatcher, monkeypatch: pytest.MonkeyPatch, until: Callable[..., Any]
) -> None:
    kept = smtp_connections.Connections()
    monkeypatch.setattr(smtp_connections, "CONNECTIONS", kept)
    monkeypatch.setattr(smtp_connections, "KEPT_SECONDS", 0.05)
    providers.send("email", letter())
    until(lambda: not kept._idle, "the sweep")
    providers.send("email", letter())
    assert server.handler.steps.count("EHLO") == 2


def test_threads_do_not_share_a_connection(app: Flask, server: MailCatcher) -> None:
    def send(number: int) -> None:
        with app.app_context():
            providers.send("email", letter(f"user{number}@example.com"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(send, range(40)))
    assert sorted(str(mail["To"]) for mail in server.mails) == sorted(
        f"user{number}@example.com" for number in range(40)
    )


@pytest.mark.parametrize(
    ("answer", "reason"), [("550 5.1.1 No such user", "bad_address"), ("550 5.7.1 Not from you", "refused")]
)
def test_a_refused_recipient_is_final_and_costs_the_others_nothing(
    in_app: None, server: MailCatcher, answer: str, reason: str
) -> None:
    server.handler.refused["gone@example.com"] = answer
    for _ in range(5):
        with pytest.raises(Refused) as refusal:
            providers.send("email", letter("gone@example.com"))
        assert (refusal.value.reason, str(refusal.value)) == (reason, answer)
    providers.send("email", letter())
    assert server.handler.steps.count("EHLO") == 1
    assert [str(mail["To"]) for mail in server.mails] == ["ann@example.com"]


@pytest.mark.parametrize("answer", ["450 4.2.0 Greylisted", "530 5.7.0 Authentication required"])
def test_what_may_pass_is_no_refusal(in_app: None, server: MailCatcher, answer: str) -> None:
    server.handler.refused["ann@example.com"] = answer
    with pytest.raises(Away, match=answer):
        providers.send("email", letter())


def test_a_server_that_is_away_is_left_alone_and_found_again(
    in_app: None, server: MailCatcher, hurried: None, until: Callable[..., Any]
) -> None:
    server.hang_up()
    for _ in range(3):
        with pytest.raises(Away, match="ConnectionRefusedError"):
            providers.send("email", letter())
    with pytest.raises(Away, match=r"left alone for .* after ConnectionRefusedError"):
        providers.send("email", letter())
    server.listen()

    def leaves() -> bool:
        with suppress(Away):
            providers.send("email", letter())
            return True
        return False

    until(leaves, "the end of its rest", 5)
    providers.send("email", letter())
    assert len(server.mails) == 2


def test_each_rest_is_longer_and_one_letter_ends_it(in_app: None) -> None:
    place = str(new_id())
    for _ in range(20):
        # As many as are under way when a server falls: their failures are one.
        health.failed(place, "down")
    rest = health.rest_of(place)
    assert rest is not None
    assert 4 < rest.seconds <= health.REST_SECONDS
    health.succeeded(place)
    assert health.rest_of(place) is None


def test_after_a_rest_one_letter_goes_and_the_others_wait_for_it(
    in_app: None, hurried: None, until: Callable[..., Any]
) -> None:
    place = str(new_id())
    for _ in range(3):
        health.failed(place, "down")
    until(lambda: health.rest_of(place) is None, "the end of the rest", 5)
    assert health.rest_of(place) is not None
    health.failed(place, "still down")
    rest = health.rest_of(place)
    assert rest is not None
    assert 0.1 < rest.seconds <= 0.2
    assert rest.error == "still down"


def test_the_next_server_takes_over(
    in_app: None, start_server: Callable[..., MailCatcher], change_settings: Change
) -> None:
    second = start_server()
    change_settings(smtp_url=f"smtp://127.0.0.1:{free_port()}, {second.smtp_url}")
    assert [providers.send("email", letter()).provider for _ in range(5)] == ["smtp-2"] * 5
    second.handler.refused["gone@example.com"] = "550 No such user"
    with pytest.raises(Refused):
        providers.send("email", letter("gone@example.com"))


def test_a_server_with_a_password(
    in_app: None, start_server: Callable[..., MailCatcher], change_settings: Change
) -> None:
    def authenticate(*heard: Any) -> Any:
        return server.handler.authenticate(*heard)

    server = start_server(
        authenticator=authenticate,
        auth_require_tls=False,
        auth_exclude_mechanism=[],
    )
    change_settings(smtp_url=f"smtp://us%40er:p%40ss%2Fword@127.0.0.1:{server.smtp_port}")
    providers.send("email", letter())
    assert server.handler.logins == [(b"us@er", b"p@ss/word")]
    smtp_connections.CONNECTIONS.clear()
    change_settings(smtp_url=f"smtp://user:secret-word@127.0.0.1:{server.smtp_port}")
    with pytest.raises(Away, match="SMTPAuthenticationError") as away:
        providers.send("email", letter())
    assert "secret-word" not in str(away.value)


def test_without_a_server_a_developer_finds_a_file(in_app: None, change_settings: Change, tmp_path: Path) -> None:
    change_settings(smtp_url="", var_dir=tmp_path)
    sent = letter("jürgen@example.com", text="Grüße\n")
    assert providers.send("email", sent).provider == "folder"
    file = tmp_path / "mail" / f"{sent.message_id}.eml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "jürgen@example.com" in file.read_text()
    change_settings(environment="production")
    assert not providers.is_on("email")
    with pytest.raises(Away, match="SMTP_URL is not set"):
        providers.send("email", letter())
