"""Links in mails that switch a kind of notification off."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.clock import utcnow
from service.ids import new_id
from service.notifications.channel_messages import DueMessage
from service.notifications.composing import RENDERED, compose
from service.notifications.providers import Letter
from service.notifications.unsubscribe import unsubscribe_url
from tests.conftest import Account, MakeUser


def preferences(client: FlaskClient, user: Account) -> dict[tuple[str, str], bool]:
    answer = client.get("/api/notifications/preferences", headers=user.headers).get_json()
    return {(each["notificationType"], each["channel"]): each["enabled"] for each in answer["data"]}


def link(app: Flask, user_id: Any, kind: str = "job_status", channel: str = "email") -> str:
    with app.app_context():
        url = urlsplit(unsubscribe_url(user_id, kind, channel))
    return f"{url.path}?{url.query}"


def test_a_mail_program_unsubscribes_by_one_post(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user, other = make_user(), make_user()
    before = preferences(client, user)
    # RFC 8058: as a form, and without cookies or anything else.
    answer = client.post(link(app, user.id), data={"List-Unsubscribe": "One-Click"})
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert preferences(client, user) == {**before, ("job_status", "email"): False}
    assert preferences(client, other) == before
    assert client.post(link(app, user.id)).status_code == 200


def test_mails_of_what_can_be_muted_carry_the_link(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()

    def letter(kind: str | None, channel: str = "email") -> Letter:
        words = {"subject": "Job done", "text": "It took 3 s.", "html": None}
        with app.app_context():
            message = DueMessage(new_id(), user.id, channel, RENDERED, words, 1, utcnow(), notification_type=kind)
            return compose(message)

    url = urlsplit(letter("job_status").unsubscribe_url or "")
    assert client.post(f"{url.path}?{url.query}").status_code == 200
    assert not preferences(client, user)["job_status", "email"]
    assert letter("security").unsubscribe_url is None
    assert letter(None).unsubscribe_url is None
    assert letter("job_status", "push").unsubscribe_url is None


def test_the_link_also_knows_kinds_without_a_preference(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    body = {"List-Unsubscribe": (None, "One-Click")}
    answer = client.post(link(app, user.id, "reports"), data=body, content_type="multipart/form-data")
    assert answer.status_code == 200
    assert preferences(client, user)["reports", "email"] is False


def test_who_opens_the_link_is_asked_first(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    before = preferences(client, user)
    answer = client.get(link(app, user.id, "<script>"))
    assert answer.status_code == 200
    assert '<form method="post">' in answer.text
    assert "<script>" not in answer.text
    assert "form-action 'self'" in answer.headers["Content-Security-Policy"]
    assert preferences(client, user) == before


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_link_cannot_be_made_up(app: Flask, client: FlaskClient, make_user: MakeUser, method: str) -> None:
    user, other = make_user(), make_user()
    token = parse_qs(urlsplit(link(app, user.id)).query)["token"][0]
    others = parse_qs(urlsplit(link(app, other.id)).query)["token"][0]
    claim, signature = token.split(".")
    for forged in (claim, f"{claim}.", f"{others.split('.')[0]}.{signature}", f"{token}x", "ü.ü", "."):
        answer = client.open("/api/notifications/unsubscribe", method=method, query_string={"token": forged})
        assert (answer.status_code, answer.get_json()["code"]) == (404, "unsubscribe_link_invalid"), forged
    assert client.open("/api/notifications/unsubscribe", method=method).status_code == 422
    assert preferences(client, user)["job_status", "email"]


def test_a_link_of_somebody_who_is_gone(app: Flask, client: FlaskClient) -> None:
    assert client.post(link(app, new_id())).status_code == 404


def test_what_is_critical_stays_on(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    answer = client.post(link(app, make_user().id, "security"))
    assert (answer.status_code, answer.get_json()["code"]) == (422, "critical_type")


def test_a_form_that_is_too_large_is_not_read(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    assert client.post(link(app, make_user().id), data={"a": "x" * 20_000}).status_code == 413
