"""Logging in, and not guessing how."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher, extract_parameters

from service.accounts import passwords
from service.accounts.passwords import is_outdated
from service.accounts.throttle import count_attempt
from service.errors import RateLimited


@pytest.mark.parametrize("attribute", ["username", "email"])
@pytest.mark.parametrize("change", [str, str.upper])
def test_name_or_address_will_do(post, client, make_user, attribute, change):
    user = make_user(("user", "operator"))
    login = user.username if attribute == "username" else f"{user.username}@example.com"
    answer = post("login", username=change(login), password=user.password)
    assert answer.status_code == 200
    session = answer.json
    assert set(session) == {"accessToken", "refreshToken", "expiresIn", "user"}
    assert session["expiresIn"] == 900
    assert session["user"]["id"] == str(user.id)
    assert session["user"]["roles"] == ["user", "operator"]
    assert answer.headers["Cache-Control"] == "no-store"
    me = client.get("/api/auth/me", headers={"Authorization": f"Bearer {session['accessToken']}"})
    assert me.json["username"] == user.username


def test_a_wrong_password_and_an_unknown_name_look_alike(post, make_user):
    user = make_user()
    wrong = post("login", username=user.username, password="wrong password")
    unknown = post("login", username=f"{user.username}x", password=user.password)
    for answer in (wrong, unknown):
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert wrong.json["requestId"] != unknown.json["requestId"]
    assert wrong.json | {"requestId": None} == unknown.json | {"requestId": None}
    assert wrong.json["code"] == "invalid_credentials"


def test_an_unknown_name_costs_as_much_as_a_wrong_password(post, make_user, monkeypatch):
    user = make_user()
    checked = []

    def verify(password_hash, password):
        checked.append(extract_parameters(password_hash))
        return False

    monkeypatch.setattr(passwords, "_verify", verify)
    for login in (user.username, f"{user.username}x"):
        assert post("login", username=login, password="wrong password").status_code == 401
    wrong, unknown = checked
    assert wrong == unknown


def test_guessing_is_slowed_down(post, make_user):
    user, other = make_user(), make_user()
    for _ in range(10):
        assert post("login", username=user.username, password="wrong password").status_code == 401
    refused = post("login", username=user.username.upper(), password=user.password)
    assert (refused.status_code, refused.json["code"]) == (429, "rate_limited")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert post("login", username=other.username, password=other.password).status_code == 200


def test_one_password_is_not_tried_on_everybody(app, make_user):
    user = make_user()
    address = "203.0.113.7"
    with app.app_context():
        for number in range(300):
            count_attempt(f"name{number}", address)
        with pytest.raises(RateLimited):
            count_attempt(user.username, address)
        count_attempt(user.username, "203.0.113.8")


def test_guesses_sent_at_once_are_all_counted(app, make_user, at_once):
    user = make_user()

    def guess() -> int:
        body = {"username": user.username, "password": "wrong password"}
        return app.test_client().post("/api/auth/login", json=body).status_code

    assert sorted(at_once(16, guess)) == [401] * 10 + [429] * 6


def test_only_failures_count(post, make_user):
    user = make_user()
    for _ in range(3):
        for _ in range(9):
            post("login", username=user.username, password="wrong password")
        assert post("login", username=user.username, password=user.password).status_code == 200


def test_without_redis_people_still_log_in(post, make_user, change_settings):
    user = make_user()
    change_settings(redis_url="redis://127.0.0.1:1/0")
    assert post("login", username=user.username, password=user.password).status_code == 200
    assert post("login", username=user.username, password="wrong password").status_code == 401


def test_a_deactivated_user_is_told_so_only_with_the_right_password(post, make_user, sql):
    user = make_user()
    sql("UPDATE users SET is_active = false WHERE id = :id", id=user.id)
    right = post("login", username=user.username, password=user.password)
    wrong = post("login", username=user.username, password="wrong password")
    assert (right.status_code, right.json["code"]) == (403, "account_deactivated")
    assert (wrong.status_code, wrong.json["code"]) == (401, "invalid_credentials")
    assert sql("SELECT 1 FROM refresh_tokens WHERE user_id = :id", id=user.id) == []


def test_a_hash_of_older_parameters_is_renewed(post, make_user, sql):
    user = make_user()
    old = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(user.password)
    sql("UPDATE users SET password_hash = :hash WHERE id = :id", hash=old, id=user.id)
    assert post("login", username=user.username, password=user.password).status_code == 200
    new = sql("SELECT password_hash FROM users WHERE id = :id", id=user.id)[0]["password_hash"]
    assert new != old
    assert not is_outdated(new)
    assert post("login", username=user.username, password=user.password).status_code == 200


def test_bodies_that_are_no_log_in(post, client):
    for body in ({"username": "somebody"}, {"username": "x" * 300, "password": "y"}, {"username": 1, "password": 2}):
        assert post("login", **body).status_code == 422
    assert client.post("/api/auth/login", data="{", content_type="application/json").status_code == 400
    assert client.post("/api/auth/login", data="username=a", content_type="text/plain").status_code == 415
