"""Refresh tokens: good once, and a family ends when one is used twice."""

from __future__ import annotations

import jwt
import pytest
from sqlalchemy import text

from service.accounts.actions import delete_expired_tokens
from service.database import db


@pytest.fixture
def session(post, make_user):
    """A user and the tokens of his session."""
    user = make_user()
    answer = post("login", username=user.username, password=user.password)
    return user, answer.json


def roles_in(access_token: str) -> list[str]:
    return jwt.decode(access_token, options={"verify_signature": False})["roles"]


def test_tokens_rotate(post, session):
    _, first = session
    second = post("refresh", refreshToken=first["refreshToken"])
    assert second.status_code == 200
    assert second.json["refreshToken"] != first["refreshToken"]
    assert second.json["user"] == first["user"]
    assert post("refresh", refreshToken=second.json["refreshToken"]).status_code == 200


def test_a_token_used_twice_ends_its_family_and_no_other(post, session, sql):
    user, first = session
    other = post("login", username=user.username, password=user.password).json
    second = post("refresh", refreshToken=first["refreshToken"]).json
    again = post("refresh", refreshToken=first["refreshToken"])
    assert (again.status_code, again.json["code"]) == (401, "invalid_token")
    assert post("refresh", refreshToken=second["refreshToken"]).status_code == 401
    assert post("refresh", refreshToken=other["refreshToken"]).status_code == 200
    entries = sql("SELECT 1 FROM audit_log WHERE action = 'auth.refresh_reused' AND actor_id = :id", id=user.id)
    assert len(entries) == 1


def test_of_several_uses_at_once_exactly_one_wins(app, session, at_once):
    _, first = session

    def refresh() -> int:
        body = {"refreshToken": first["refreshToken"]}
        return app.test_client().post("/api/auth/refresh", json=body).status_code

    assert sorted(at_once(6, refresh)) == [200] + [401] * 5


def test_two_tabs_that_refresh_at_the_same_moment_stay_logged_in(app, post, session, at_once, until):
    user, first = session
    with app.app_context(), db.engine.connect() as lock:
        lock.execute(text("SELECT 1 FROM users WHERE id = :id FOR NO KEY UPDATE"), {"id": user.id})

        def refresh():
            return app.test_client().post("/api/auth/refresh", json={"refreshToken": first["refreshToken"]})

        def release() -> None:
            with app.app_context(), db.engine.connect() as watch:
                waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
                until(lambda: watch.execute(waiting).scalar_one() >= 2, "both tabs wait for the row")
            lock.rollback()

        calls = iter([refresh, refresh, release])

        def call():
            return next(calls)()

        answers = [answer for answer in at_once(3, call) if answer]
    won, lost = sorted(answers, key=lambda answer: answer.status_code)
    assert (won.status_code, lost.status_code) == (200, 401)
    assert post("refresh", refreshToken=won.json["refreshToken"]).status_code == 200


def test_roles_come_from_the_database_at_refresh(post, session, sql):
    user, tokens = session
    assert roles_in(tokens["accessToken"]) == ["user"]
    sql("UPDATE users SET roles = '{operator}' WHERE id = :id", id=user.id)
    answer = post("refresh", refreshToken=tokens["refreshToken"]).json
    assert roles_in(answer["accessToken"]) == ["operator"]
    assert answer["user"]["roles"] == ["operator"]


def test_a_deactivated_user_cannot_refresh(post, session, sql):
    user, tokens = session
    sql("UPDATE users SET is_active = false WHERE id = :id", id=user.id)
    assert post("refresh", refreshToken=tokens["refreshToken"]).status_code == 401


def test_a_token_runs_out(post, session, sql):
    user, tokens = session
    sql("UPDATE refresh_tokens SET expires_at = now() - interval '1 second' WHERE user_id = :id", id=user.id)
    answer = post("refresh", refreshToken=tokens["refreshToken"])
    assert (answer.status_code, answer.json["code"]) == (401, "token_expired")


@pytest.mark.parametrize("token", ["nonsense", "ü" * 100, "' OR 1=1 --"])
def test_tokens_that_were_never_issued(post, token):
    answer = post("refresh", refreshToken=token)
    assert (answer.status_code, answer.json["code"]) == (401, "invalid_token")
    assert post("logout", refreshToken=token).status_code == 204


@pytest.mark.parametrize("token", ["", "x" * 600, None, 5, "\ud800"])
def test_what_is_no_token(post, token):
    assert post("refresh", refreshToken=token).status_code == 422


def test_logging_out_ends_the_family_and_no_other(post, session):
    user, first = session
    other = post("login", username=user.username, password=user.password).json
    second = post("refresh", refreshToken=first["refreshToken"]).json
    answer = post("logout", refreshToken=second["refreshToken"])
    assert (answer.status_code, answer.data) == (204, b"")
    assert post("refresh", refreshToken=second["refreshToken"]).status_code == 401
    assert post("logout", refreshToken=second["refreshToken"]).status_code == 204
    assert post("refresh", refreshToken=other["refreshToken"]).status_code == 200


def test_tokens_are_kept_as_hashes(session, sql):
    user, tokens = session
    rows = sql("SELECT token_hash FROM refresh_tokens WHERE user_id = :id", id=user.id)
    assert tokens["refreshToken"].encode() not in bytes(rows[0]["token_hash"])
    assert len(bytes(rows[0]["token_hash"])) == 32


def test_tokens_that_have_run_out_are_deleted(app, post, session, sql):
    user, _ = session
    post("login", username=user.username, password=user.password)
    sql(
        """UPDATE refresh_tokens SET expires_at = now() - interval '1 second'
        WHERE id = (SELECT min(id::text)::uuid FROM refresh_tokens WHERE user_id = :id)""",
        id=user.id,
    )
    sql(
        """INSERT INTO password_resets (id, user_id, created_at, expires_at)
        VALUES (gen_random_uuid(), :id, now() - interval '3 days', now() - interval '3 days'),
            (gen_random_uuid(), :id, now() - interval '2 hours', now() - interval '1 hour')""",
        id=user.id,
    )
    with app.app_context():
        assert delete_expired_tokens() >= 2
    assert len(sql("SELECT 1 FROM refresh_tokens WHERE user_id = :id", id=user.id)) == 1
    assert len(sql("SELECT 1 FROM password_resets WHERE user_id = :id", id=user.id)) == 1
