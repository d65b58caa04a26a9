"""Text that JSON, URLs and headers can carry and PostgreSQL cannot hold is refused, not broken on."""

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
