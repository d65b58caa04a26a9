"""Bad input over real HTTP: always the one error shape, never a page of HTML, never a stack trace."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
import requests

from tests.acceptance.answers import assert_error
from tests.acceptance.platform import Person, Platform

pytestmark = pytest.mark.xdist_group("platform")

JSON = {"Content-Type": "application/json"}
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def person(platform: Platform) -> Person:
    return platform.newcomer()


@pytest.fixture(scope="module")
def stranger(platform: Platform) -> Person:
    """Somebody of another organization, with every role there is."""
    return platform.stranger()


def submission(**changes: Any) -> dict[str, Any]:
    return {"type": "demo-steps", "payload": {"steps": 1}, **changes}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"type": "demo-steps",}',
        b"{'type': 'demo-steps'}",
        b"\xff\xfe",
        b'"\x00"',
        b"type=demo-steps",
        pytest.param(b"[" * 100_000, id="deep and open"),
        pytest.param(b"[" * 5_000 + b"]" * 5_000, id="deep"),
        pytest.param(b'{"payload": ' + b'{"a": ' * 500 + b"1" + b"}" * 501, id="deep payload"),
    ],
)
def test_what_is_no_json_is_malformed(person: Person, body: bytes) -> None:
    answer = person.send("POST", "/api/jobs", data=body, headers=JSON)
    assert_error(answer, 400, "malformed_request")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "type"),
        (submission(type=None), "type"),
        (submission(type=7), "type"),
        (submission(type=""), "type"),
        (submission(type="no-such-type"), "type"),
        (submission(payload=None), "payload"),
        (submission(payload=[]), "payload"),
        (submission(payload={}), "payload.steps"),
        (submission(payload={"steps": "many"}), "payload.steps"),
        (submission(payload={"steps": 0}), "payload.steps"),
        (submission(payload={"steps": 10_001}), "payload.steps"),
        (submission(payload={"steps": 10**400}), "payload.steps"),
        (submission(payload={"steps": 1, "sleepMs": -1}), "payload.sleepMs"),
        (submission(payload={"steps": 1, "sleepMs": [1]}), "payload.sleepMs"),
        (submission(payload={"steps": 1, "failAt": "never"}), "payload.failAt"),
        (submission(payload={"steps": 1, "permanent": "perhaps"}), "payload.permanent"),
        (submission(payload={"steps": 1, "surprise": True}), "payload.surprise"),
        (submission(options=7), "options"),
        (submission(options={"priority": 101}), "options.priority"),
        (submission(options={"priority": "high"}), "options.priority"),
        (submission(options={"delay": -1}), "options.delay"),
        (submission(options={"delay": 1e300}), "options.delay"),
        (submission(options={"runAt": "tomorrow"}), "options.runAt"),
        (submission(options={"runAt": "2030-01-01T00:00:00"}), "options.runAt"),
        (submission(options={"delay": 1, "runAt": "2030-01-01T00:00:00Z"}), "options.delay"),
        (submission(options={"retryLimit": -1}), "options.retryLimit"),
        (submission(options={"retryDelay": "soon"}), "options.retryDelay"),
        (submission(options={"retryStrategy": "hopeful"}), "options.retryStrategy"),
        (submission(options={"timeout": 0}), "options.timeout"),
        (submission(options={"tags": "one"}), "options.tags"),
        (submission(options={"tags": [""]}), "options.tags.0"),
        (submission(options={"surprise": True}), "options.surprise"),
        (submission(name=""), "name"),
        (submission(userId="somebody else"), "userId"),
        (submission(status="completed"), "status"),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[:60],
)
def test_an_invalid_field_is_named(person: Person, body: Any, field: str) -> None:
    # `json=` would refuse some of these before they left.
    answer = person.send("POST", "/api/jobs", data=json.dumps(body), headers=JSON)
    error = assert_error(answer, 422)
    assert error["code"] == ("unknown_job_type" if body.get("type") == "no-such-type" else "validation_failed")
    errors = error["errors"]
    assert isinstance(errors, dict)
    assert set(errors) == {field}
    assert all(isinstance(text, str) and text for text in errors[field])


@pytest.mark.parametrize("text", ["\ud800", "\udfff and more", "\x00"])
def test_text_that_no_database_holds_is_refused(person: Person, text: str) -> None:
    for path, body in {
        "/api/jobs": submission(name=f"half a character {text}"),
        "/api/webhooks": {"url": "http://127.0.0.1/", "eventType": "completed", "description": text},
        "/api/connections": {"name": text, "url": "postgresql://127.0.0.1/db"},
        "/api/auth/login": {"username": text, "password": text},
    }.items():
        answer = person.send("POST", path, data=json.dumps(body), headers=JSON)
        assert_error(answer, 422, "validation_failed")


@pytest.mark.parametrize("body", [b"[]", b"null", b"7", b'"text"', b"true"])
def test_a_body_that_is_no_object_is_invalid(person: Person, body: bytes) -> None:
    assert_error(person.send("POST", "/api/jobs", data=body, headers=JSON), 422, "validation_failed")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("place", ['{"steps": %s}', '{"steps": 1, "failAt": %s}'])
def test_numbers_that_json_does_not_have_are_refused(person: Person, number: str, place: str) -> None:
    body = f'{{"type": "demo-steps", "payload": {place % number}}}'
    answer = person.send("POST", "/api/jobs", data=body, headers=JSON)
    assert answer.status_code in {400, 422}
    assert_error(answer, answer.status_code)


@pytest.mark.parametrize(
    "query",
    [
        "status=lost",
        "page=0",
        "page=x",
        "limit=101",
        "limit=-1",
        "since=yesterday",
        "since=2026-01-01",
        "page=99999999999999999999999",
    ],
)
def test_invalid_query_arguments_are_named(person: Person, query: str) -> None:
    error = assert_error(person.send("GET", f"/api/jobs?{query}"), 422, "validation_failed")
    assert error["errors"]
    assert set(error["errors"]) == {query.partition("=")[0]}  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "query",
    ["q=%00", "type=%00", "tag=%00", "queue=a%00b", "since=0001-01-01T00:00:00Z", "until=1900-01-01T00:00:00Z"],
)
def test_odd_query_arguments_do_no_harm(person: Person, query: str) -> None:
    answer = person.send("GET", f"/api/jobs?{query}")
    if answer.status_code != 200:
        assert_error(answer, 422, "validation_failed")


def test_a_time_beyond_the_calendar_does_no_harm(person: Person) -> None:
    body = submission(options={"runAt": "9999-12-31T23:59:59-14:00"})
    answer = person.send("POST", "/api/jobs", json=body)
    if answer.status_code != 202:
        assert_error(answer, 422, "validation_failed")
    assert person.send("GET", "/api/jobs?limit=100").status_code == 200


@pytest.mark.parametrize("type_", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_another_content_type_is_refused(person: Person, type_: str) -> None:
    answer = person.send("POST", "/api/jobs", data=json.dumps(submission()), headers={"Content-Type": type_})
    assert_error(answer, 415, "unsupported_media_type")


def test_a_body_too_large_is_refused(person: Person) -> None:
    body = json.dumps(submission(name="x" * MEBIBYTE))
    assert_error(person.send("POST", "/api/jobs", data=body, headers=JSON), 413, "body_too_large")


@pytest.fixture(params=["eventlet", "threading"])
def at_each_node(request: pytest.FixtureRequest, person: Person, threading_node: str) -> Person:
    """The person at a web node of each kind: they read requests with different servers."""
    return person if request.param == "eventlet" else replace(person, url=threading_node)


def test_a_body_too_large_is_refused_when_its_length_is_not_told(at_each_node: Person) -> None:
    answer = chunked(at_each_node, json.dumps(submission(name="x" * MEBIBYTE)).encode())
    assert_error(answer, 413, "body_too_large")


def test_a_body_without_a_told_length_is_read(at_each_node: Person) -> None:
    assert chunked(at_each_node, json.dumps(submission()).encode()).status_code == 202


def chunked(person: Person, body: bytes) -> requests.Response:
    def pieces() -> Any:
        for start in range(0, len(body), 8192):
            yield body[start : start + 8192]

    return person.send("POST", "/api/jobs", data=pieces(), headers=JSON)


def test_a_body_that_ends_too_early_leaves_the_server_serving(person: Person) -> None:
    address = urlsplit(person.url)
    head = (
        "POST /api/jobs HTTP/1.1\r\nHost: carillon\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {person.token}\r\nContent-Length: 100\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port), 10) as connection:
        connection.sendall(head.encode() + b'{"type":')
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(10)
        said = b""
        while piece := connection.recv(65536):
            said += piece
    assert b"Traceback" not in said
    assert not said or said.startswith(b"HTTP/1.1 400")
    person.get("/api/jobs")


def test_an_unknown_address_has_no_page(platform: Platform, person: Person) -> None:
    for path in ("/nothing", "/api/nothing", "/api/jobs/", "/api/jobs/7", "/api/jobs/%2e%2e", "/api/health/x"):
        assert_error(person.send("GET", path), 404)
        assert_error(requests.get(platform.url + path, timeout=10), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", "/api/jobs", "POST"), ("DELETE", "/api/jobs", "GET"), ("GET", "/api/auth/login", "POST")],
)
def test_a_wrong_method_is_told_the_right_ones(person: Person, method: str, path: str, allowed: str) -> None:
    answer = person.send(method, path)
    assert_error(answer, 405, "method_not_allowed")
    assert allowed in answer.headers["Allow"]


def test_jobs_of_others_are_hidden_across_tenants_and_closed_within(
    platform: Platform, person: Person, stranger: Person
) -> None:
    job_id = person.submit(delay=3600)
    colleague = platform.newcomer()
    requests_for_it = [
        ("GET", ""),
        ("GET", "/executions"),
        ("GET", "/logs"),
        ("POST", "/retry"),
        ("DELETE", ""),
    ]
    for method, below in requests_for_it:
        path = f"/api/jobs/{job_id}{below}"
        assert_error(colleague.send(method, path), 403, "not_allowed")
        assert_error(stranger.send(method, path), 404, "job_not_found")
    for other in (colleague, stranger):
        assert job_id not in {job["id"] for job in other.get("/api/jobs?limit=100")["data"]}
    assert person.job(job_id)["status"] == "scheduled"
    # A tenant that is not told whether there is such a job is told the same of one that there is not.
    unknown = stranger.send("GET", f"/api/jobs/{job_id[:-4]}0000").json()
    known = stranger.send("GET", f"/api/jobs/{job_id}").json()
    assert {**unknown, "requestId": ""} == {**known, "requestId": ""}


def test_other_things_of_others_are_closed_too(platform: Platform, person: Person, stranger: Person) -> None:
    person.await_status(person.submit(), "completed")
    notification = person.get("/api/notifications")["data"][0]
    webhook = person.add_webhook("http://127.0.0.1:9/closed")
    connection = person.ask("POST", "/api/connections", {"name": "mine", "url": platform.stack.database_url}, 201)
    colleague = platform.newcomer()
    requests_for_it = [
        ("PATCH", f"/api/notifications/{notification['id']}/read"),
        ("DELETE", f"/api/notifications/{notification['id']}"),
        ("GET", f"/api/webhooks/{webhook['id']}"),
        ("GET", f"/api/webhooks/{webhook['id']}/secret"),
        ("GET", f"/api/webhooks/{webhook['id']}/deliveries"),
        ("PATCH", f"/api/webhooks/{webhook['id']}"),
        ("DELETE", f"/api/webhooks/{webhook['id']}"),
        ("GET", f"/api/connections/{connection['id']}"),
        ("POST", f"/api/connections/{connection['id']}/rebuild"),
        ("DELETE", f"/api/connections/{connection['id']}"),
    ]
    for method, path in requests_for_it:
        body = {} if method in {"PATCH", "POST"} else None
        assert_error(colleague.send(method, path, json=body), 403)
        assert_error(stranger.send(method, path, json=body), 404)


def test_the_same_webhook_twice_is_a_conflict(person: Person) -> None:
    body = {"url": "http://127.0.0.1:9/twice", "eventType": "completed"}
    first = person.ask("POST", "/api/webhooks", body, 201)
    assert_error(person.send("POST", "/api/webhooks", json=body), 409, "webhook_exists")
    other = person.ask("POST", "/api/webhooks", {**body, "eventType": "failed"}, 201)
    change = {"eventType": "completed"}
    assert_error(person.send("PATCH", f"/api/webhooks/{other['id']}", json=change), 409, "webhook_exists")
    assert person.get(f"/api/webhooks/{first['id']}")["eventType"] == "completed"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"eventType": "completed"}, "url"),
        ({"url": "http://127.0.0.1/", "eventType": "sometimes"}, "eventType"),
        ({"url": "ftp://127.0.0.1/", "eventType": "completed"}, "url"),
        ({"url": "http://10.0.0.1/", "eventType": "completed"}, "url"),
        ({"url": "http://169.254.169.254/", "eventType": "completed"}, "url"),
        ({"url": "http://[::1]/", "eventType": "completed"}, "url"),
        ({"url": "http://2130706433/", "eventType": "completed"}, "url"),
        ({"url": "http://user:secret@127.0.0.1/", "eventType": "completed"}, "url"),
        ({"url": "http://127.0.0.1/", "eventType": "completed", "secret": "mine"}, "secret"),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[:60],
)
def test_an_invalid_webhook_names_the_field(person: Person, body: Any, field: str) -> None:
    answer = person.send("POST", "/api/webhooks", data=json.dumps(body), headers=JSON)
    error = assert_error(answer, 422, "validation_failed")
    assert set(error["errors"]) == {field}  # type: ignore[call-overload]


def test_ended_jobs_cannot_be_cancelled_and_completed_ones_not_retried(person: Person) -> None:
    job_id = person.submit()
    person.await_status(job_id, "completed")
    assert_error(person.send("DELETE", f"/api/jobs/{job_id}"), 409, "job_not_cancellable")
    assert_error(person.send("POST", f"/api/jobs/{job_id}/retry"), 409, "job_not_retryable")


def forged(person: Person, **changes: Any) -> str:
    claims = jwt.decode(person.token, options={"verify_signature": False}) | changes
    return jwt.encode(claims, "a key that somebody else made up, long enough", algorithm="HS256")


def unsigned(person: Person) -> str:
    claims = jwt.decode(person.token, options={"verify_signature": False})
    return jwt.encode(claims, None, algorithm="none")


def test_nobody_gets_in_without_a_true_token(platform: Platform, person: Person) -> None:
    tokens = [
        "",
        "nonsense",
        "a.b.c",
        person.token[:-2],
        forged(person),
        forged(person, roles=["admin"]),
        unsigned(person),
    ]
    for header in [{}, {"Authorization": "Basic YTpi"}, *({"Authorization": f"Bearer {each}"} for each in tokens)]:
        answer = requests.get(f"{platform.url}/api/jobs", headers=header, timeout=10)
        assert_error(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_wrong_password_and_an_unknown_name_look_the_same(platform: Platform, person: Person) -> None:
    answers = [
        requests.post(f"{platform.url}/api/auth/login", json={"username": name, "password": "not the one"}, timeout=10)
        for name in (person.username, "nobody-of-this-name")
    ]
    errors = [assert_error(answer, 401, "invalid_credentials") for answer in answers]
    assert errors[0]["message"] == errors[1]["message"]


def test_only_administrators_see_the_users(person: Person) -> None:
    assert_error(person.send("GET", "/api/admin/users"), 403, "not_allowed")


def test_a_request_id_is_kept_only_where_it_is_harmless(person: Person) -> None:
    assert person.send("GET", "/api/jobs/7", headers={"X-Request-ID": "mine-7"}).json()["requestId"] == "mine-7"
    assert person.send("GET", "/api/jobs/7", headers={"X-Request-ID": "<b>"}).json()["requestId"] != "<b>"
