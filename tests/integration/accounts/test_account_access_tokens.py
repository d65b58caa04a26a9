"""Access tokens that are forged, stale or of another make are refused in the error shape."""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from uuid import uuid4

import jwt
import pytest
from flask import Flask


def claims(user: Any, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    honest = {
        "iss": "carillon",
        "sub": str(user.id),
        "org": str(user.organization_id),
        "name": user.username,
        "roles": ["user"],
        "iat": now,
        "exp": now + 60,
    }
    return {name: value for name, value in (honest | changes).items() if value is not None}


def unsigned(payload: dict[str, Any]) -> str:
    parts = [json.dumps({"alg": "none", "typ": "JWT"}), json.dumps(payload)]
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts) + "."


@pytest.fixture
def key(app: Flask) -> str:
    """The key that tokens are signed with."""
    return str(app.extensions["carillon_settings"].secret_key)


def refused(client: Any, token: str, code: str = "invalid_token") -> None:
    answer = client.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401
    assert set(answer.json) == {"code", "message", "status", "requestId"}
    assert (answer.json["code"], answer.json["status"]) == (code, 401)
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_an_honest_token_is_let_in(client, make_user, key):
    token = jwt.encode(claims(make_user()), key, algorithm="HS256")
    assert client.get("/api/auth/me", headers={"Authorization": f"bearer {token}"}).status_code == 200


def test_expired(client, make_user, key):
    past = int(time.time()) - 5
    refused(client, jwt.encode(claims(make_user(), exp=past), key, algorithm="HS256"), "token_expired")


@pytest.mark.parametrize("missing", ["iss", "sub", "org", "name", "roles", "iat", "exp"])
def test_a_claim_is_missing(client, make_user, key, missing):
    refused(client, jwt.encode(claims(make_user(), **{missing: None}), key, algorithm="HS256"))


def test_of_another_issuer(client, make_user, key):
    refused(client, jwt.encode(claims(make_user(), iss="somebody else"), key, algorithm="HS256"))


def test_signed_with_another_key(client, make_user):
    refused(client, jwt.encode(claims(make_user()), "x" * 32, algorithm="HS256"))


def test_signed_with_another_algorithm(client, make_user, key):
    refused(client, jwt.encode(claims(make_user()), key * 2, algorithm="HS512"))
    refused(client, jwt.encode(claims(make_user()), key * 2, algorithm="HS384"))


def test_not_signed(client, make_user):
    token = unsigned(claims(make_user(), roles=["admin"]))
    refused(client, token)
    refused(client, token.rstrip("."))


def test_with_other_claims_under_the_old_signature(client, make_user):
    user = make_user()
    header, _, signature = user.token.split(".")
    payload = base64.urlsafe_b64encode(json.dumps(claims(user, roles=["admin"])).encode()).decode().rstrip("=")
    refused(client, f"{header}.{payload}.{signature}")


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "....", "\x7f"])
def test_nonsense(client, token):
    refused(client, token)


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer"}, {"Authorization": "Basic YTpi"}])
def test_no_token(client, header):
    answer = client.get("/api/auth/me", headers=header)
    assert (answer.status_code, answer.json["code"]) == (401, "not_authenticated")


def test_of_a_user_that_is_gone(client, make_user, key):
    user = make_user()
    token = jwt.encode(claims(user, sub=str(uuid4())), key, algorithm="HS256")
    refused(client, token, "not_authenticated")


def test_a_refresh_token_is_no_access_token(client, post, make_user):
    user = make_user()
    session = post("login", username=user.username, password=user.password).json
    refused(client, session["refreshToken"])


def test_the_api_document_says_which_routes_are_public(client):
    paths = client.get("/api/openapi.json").json["paths"]
    assert paths["/api/auth/login"]["post"]["security"] == []
    assert "security" not in paths["/api/auth/me"]["get"]
