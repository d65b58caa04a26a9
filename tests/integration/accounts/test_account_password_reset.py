"""A forgotten password, from the request to the new one, with the real mail in between."""

from __future__ import annotations

import re
import time
from email import message_from_bytes, policy

import pytest

from service.notifications.channel_messages import send_due_messages


@pytest.fixture
def mails(app):
    """Sends what is due; the mails kept for an address, oldest first."""

    def read(address):
        with app.app_context():
            send_due_messages()
        folder = app.extensions["carillon_settings"].var_dir / "mail"
        found = [message_from_bytes(path.read_bytes(), policy=policy.default) for path in sorted(folder.glob("*.eml"))]
        return [mail for mail in found if mail["To"] == address]

    return read


def text_of(mail) -> str:
    return mail.get_body(("plain",)).get_content()


def token_in(mail) -> str:
    return re.search(r"/reset-password\?token=([\w.-]+)\r?\n", text_of(mail))[1]


@pytest.fixture
def asked(post, make_user, mails):
    """A user who has asked, his address and the token he was sent."""
    user = make_user()
    address = f"{user.username}@example.com"
    assert post("password/forgot", email=address).status_code == 202
    (mail,) = mails(address)
    return user, address, token_in(mail)


def test_from_forgotten_to_new(app, post, make_user, mails):
    user = make_user()
    address = f"{user.username}@example.com"
    session = post("login", username=user.username, password=user.password).json
    assert post("password/forgot", email=address.upper()).status_code == 202
    (mail,) = mails(address)
    assert mail["From"] == "Carillon <carillon@localhost>"
    assert mail["Subject"] == "Set a new password"
    assert user.username in text_of(mail)
    assert "http://localhost:5000/reset-password?token=" in text_of(mail)

    answer = post("password/reset", token=token_in(mail), password="a new horse battery")
    assert (answer.status_code, answer.data) == (204, b"")
    assert post("login", username=user.username, password=user.password).status_code == 401
    assert post("login", username=user.username, password="a new horse battery").status_code == 200
    assert post("refresh", refreshToken=session["refreshToken"]).status_code == 401


def test_the_mail_is_kept_where_only_its_owner_reads(app, asked):
    folder = app.extensions["carillon_settings"].var_dir / "mail"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.glob("*.eml")} == {0o600}


def test_the_token_is_stored_nowhere(asked, sql):
    _, _, token = asked
    signature = token.partition(".")[2]
    for table in ("password_resets", "channel_messages", "audit_log", "users"):
        assert sql(f"SELECT 1 FROM {table} AS t WHERE t::text LIKE '%' || :secret || '%'", secret=signature) == []


def test_a_token_is_good_once(post, asked):
    _, _, token = asked
    assert post("password/reset", token=token, password="a new horse battery").status_code == 204
    answer = post("password/reset", token=token, password="another horse battery")
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_reset_token")


def test_of_two_uses_at_once_one_wins(app, asked, at_once):
    _, _, token = asked

    def reset() -> int:
        body = {"token": token, "password": "a new horse battery"}
        return app.test_client().post("/api/auth/password/reset", json=body).status_code

    assert sorted(at_once(3, reset)) == [204, 422, 422]


def test_a_changed_password_makes_every_link_worthless(post, asked, mails):
    _, address, first = asked
    post("password/forgot", email=address)
    second = token_in(mails(address)[-1])
    assert first != second
    assert post("password/reset", token=second, password="a new horse battery").status_code == 204
    assert post("password/reset", token=first, password="another horse battery").status_code == 422


def test_a_link_runs_out(post, asked, sql):
    user, _, token = asked
    sql("UPDATE password_resets SET expires_at = now() - interval '1 second' WHERE user_id = :id", id=user.id)
    assert post("password/reset", token=token, password="a new horse battery").status_code == 422


def test_a_deactivated_user_gets_neither_mail_nor_password(post, asked, mails, sql):
    user, address, token = asked
    sql("UPDATE users SET is_active = false WHERE id = :id", id=user.id)
    assert post("password/reset", token=token, password="a new horse battery").status_code == 422
    assert post("password/forgot", email=address).status_code == 202
    assert len(mails(address)) == 1


def test_forged_tokens(post, asked, make_user):
    _, _, token = asked
    reset_id, signature = token.split(".")
    other = signature[:-2] + ("AA" if signature[-2:] != "AA" else "BB")
    for forged in (f"{reset_id}.{other}", f"{reset_id}.", reset_id, f".{signature}", "ü.ü", make_user().token[:500]):
        answer = post("password/reset", token=forged, password="a new horse battery")
        assert (answer.status_code, answer.json["code"]) == (422, "invalid_reset_token")
    assert post("password/reset", token=token, password="a new horse battery").status_code == 204


def test_the_new_password_follows_the_rules(post, asked):
    user, _, token = asked
    for password in ("short", user.username.upper()):
        answer = post("password/reset", token=token, password=password)
        assert (answer.status_code, list(answer.json["errors"])) == (422, ["password"])
    assert post("password/reset", token=token, password="a new horse battery").status_code == 204


def test_nobody_learns_which_addresses_are_known(post, make_user):
    known = f"{make_user().username}@example.com"

    def ask(address):
        began = time.perf_counter()
        answer = post("password/forgot", email=address)
        return answer.status_code, answer.json, time.perf_counter() - began

    ask(known)
    (*about_known, time_known), (*about_unknown, time_unknown) = ask(known), ask("nobody@example.com")
    assert about_known == about_unknown
    assert min(time_known, time_unknown) >= 0.25


def test_at_most_three_mails_an_hour(post, make_user, mails, sql):
    user = make_user()
    address = f"{user.username}@example.com"
    for _ in range(5):
        assert post("password/forgot", email=address).status_code == 202
    assert len(mails(address)) == 3
    sql("UPDATE password_resets SET created_at = created_at - interval '1 hour' WHERE user_id = :id", id=user.id)
    post("password/forgot", email=address)
    assert len(mails(address)) == 4


def test_without_redis_a_request_is_kept_for_later(post, make_user, mails, change_settings):
    user = make_user()
    change_settings(redis_url="redis://127.0.0.1:1/0")
    assert post("password/forgot", email=f"{user.username}@example.com").status_code == 202
    assert len(mails(f"{user.username}@example.com")) == 1


def test_a_mail_too_late_for_its_link_is_not_sent(post, make_user, mails, sql):
    user = make_user()
    address = f"{user.username}@example.com"
    post("password/forgot", email=address)
    sql("UPDATE password_resets SET expires_at = now() WHERE user_id = :id", id=user.id)
    assert mails(address) == []
    (message,) = sql("SELECT status, error FROM channel_messages WHERE user_id = :id", id=user.id)
    assert (message["status"], message["error"]) == ("suppressed", "The link has run out or has been used.")
