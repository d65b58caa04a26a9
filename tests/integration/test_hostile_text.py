"""Text and values that JSON, URLs and headers can carry and PostgreSQL cannot hold are refused, not broken on."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("text", [r"\u0000", r"\ud800", r"\uDFFF", r"\ud800\ud800", r"a\udc00"])
def test_in_a_body(client, make_user, text):
    body = '{"type": "demo-steps", "name": "' + text + '", "payload": {"steps": 1}}'
    answer = client.post("/api/jobs", data=body, content_type="application/json", headers=make_user().headers)
    assert (answer.status_code, answer.json["code"]) == (422, "validation_failed")


def test_a_whole_surrogate_pair_is_a_character(client, make_user):
    body = r'{"type": "demo-steps", "name": "\ud83d\ude80", "payload": {"steps": 1}}'
    answer = client.post("/api/jobs", data=body, content_type="application/json", headers=make_user().headers)
    assert (answer.status_code, answer.json["name"]) == (202, "\N{ROCKET}")


@pytest.mark.parametrize(
    ("value", "status", "code"),
    [
        ("NaN", 422, "validation_failed"),
        ("-Infinity", 422, "validation_failed"),
        ("[1e999]", 422, "validation_failed"),
        ("[" * 60 + "]" * 60, 202, None),
        ("[" * 100 + "]" * 100, 400, "malformed_request"),
        ("[" * 20_000 + "]" * 20_000, 400, "malformed_request"),
    ],
    ids=["nan", "infinity", "large", "nested", "deep", "very-deep"],
)
def test_where_any_json_may_stand(client, make_user, value, status, code):
    user = make_user(("sender",))
    body = f'{{"type": "news", "title": "t", "message": "m", "userId": "{user.id}", "data": {{"a": {value}}}}}'
    answer = client.post("/api/notifications", data=body, content_type="application/json", headers=user.headers)
    assert (answer.status_code, answer.json.get("code")) == (status, code)


@pytest.mark.parametrize("path", ["/api/jobs?q=%00", "/api/jobs?type=a%00", "/api/notifications?type=%00"])
def test_in_a_query(client, make_user, path):
    answer = client.get(path, headers=make_user().headers)
    assert (answer.status_code, answer.json["code"]) == (422, "validation_failed")


def test_in_the_name_of_a_browser(client, make_user):
    user = make_user()
    answer = client.post(
        "/api/auth/login",
        json={"username": user.username, "password": user.password},
        headers={"User-Agent": "nul\0byte"},
    )
    assert answer.status_code == 200
