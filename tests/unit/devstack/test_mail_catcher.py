"""The mail server of the local stack, and the page that shows its mails."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from devstack.mail_catcher import MailCatcher
from devstack.mail_store import MailStore


@pytest.fixture
def catcher(tmp_path: Path) -> Iterator[MailCatcher]:
    """One that runs."""
    with MailCatcher(tmp_path / "mails") as running:
        yield running


def send(catcher: MailCatcher, subject: str = "Hello", html: str | None = None) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "carillon@localhost", "ann@example.com", subject
    mail.set_content("Set it here:\n\nhttp://localhost:5000/reset-password?token=a.b&x=1\n\n<b>not bold</b>\n")
    if html is not None:
        mail.add_alternative(html, subtype="html")
    with smtplib.SMTP("127.0.0.1", catcher.smtp_port) as server:
        server.send_message(mail, to_addrs=["ann@example.com", "hidden@example.com"])


def test_the_page_lists_mails_and_shows_each(catcher: MailCatcher) -> None:
    send(catcher, "<i>First</i>", "<h1>Hi</h1><script>alert(1)</script>")
    send(catcher, "Second")
    with urlopen(catcher.page_url) as answer:
        page = answer.read().decode()
    assert page.index("Second") < page.index("&lt;i&gt;First&lt;/i&gt;")
    name = catcher.store.all()[1].name
    with urlopen(f"{catcher.page_url}{name}") as answer:
        shown = answer.read().decode()
        assert "script-src" not in answer.headers["Content-Security-Policy"]
    assert 'href="http://localhost:5000/reset-password?token=a.b&amp;x=1"' in shown
    assert "&lt;b&gt;not bold&lt;/b&gt;" in shown
    assert "<script>" not in shown
    assert '<iframe sandbox="allow-popups' in shown
    with urlopen(f"{catcher.page_url}{name}/html") as answer:
        assert "<h1>Hi</h1>" in answer.read().decode()
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "sandbox" in answer.headers["Content-Security-Policy"]
    with urlopen(f"{catcher.page_url}{name}/source") as answer:
        assert answer.headers.get_content_type() == "text/plain"
        assert "X-Envelope-To: hidden@example.com" in answer.read().decode()


def test_who_does_not_know_the_key_sees_nothing(catcher: MailCatcher) -> None:
    send(catcher)
    root = catcher.page_url.rsplit("/", 2)[0]
    for path in ("/", "/key/", "//", f"/{catcher.store.all()[0].name}", "/../key"):
        with pytest.raises(HTTPError) as error:
            urlopen(f"{root}{path}")
        assert error.value.code == 404
        error.value.close()


def test_mails_outlive_a_restart_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    with MailCatcher(tmp_path / "mails") as first:
        send(first)
        address = first.page_url.rpartition(":")[2].partition("/")[2]
    with MailCatcher(tmp_path / "mails") as second:
        assert [str(mail["Subject"]) for mail in second.mails] == ["Hello"]
        assert second.page_url.endswith(address)
    (file,) = (tmp_path / "mails").glob("*.eml")
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_oldest_mails_go(tmp_path: Path) -> None:
    store = MailStore(tmp_path, limit=3)
    for number in range(5):
        store.add(f"Subject: {number}\r\n\r\n".encode(), [])
    assert [str(kept.message["Subject"]) for kept in store.all()] == ["4", "3", "2"]


def test_a_server_that_hung_up_listens_again(catcher: MailCatcher) -> None:
    catcher.hang_up()
    with pytest.raises(ConnectionRefusedError):
        send(catcher)
    catcher.listen()
    send(catcher)
    assert len(catcher.mails) == 1
