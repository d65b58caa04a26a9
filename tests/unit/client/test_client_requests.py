"""Requests of the client: errors, tokens, waits that the server asks for, connections that break."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.client import (
    Carillon,
    Conflict,
    Invalid,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    NotReached,
    RateLimited,
    RequestFailed,
    Unavailable,
)
from tests.unit.client.contract import CUT, Asked, ContractServer, Reply, a_job, refusal

JOB = "/api/jobs/job-1"


def page(*rows: dict[str, object], cursor: str | None = None) -> Reply:
    return Reply({"data": list(rows), "pagination": {"nextCursor": cursor}})


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, NotAllowed), (404, NotFound), (409, Conflict), (413, Invalid), (422, Invalid), (500, RequestFailed)],
)
def test_an_error_has_its_kind_and_says_all_the_server_said(
    server: ContractServer, client: Carillon, status: int, kind: type[RequestFailed]
) -> None:
    server.script("GET", JOB, refusal(status, "some_code", "Why.", {"payload.steps": ["Too many."]}))
    with pytest.raises(kind) as refused:
        client.job("job-1")
    error = refused.value
    assert (error.code, error.status, error.message, error.request_id) == ("some_code", status, "Why.", "request-1")
    assert error.errors == {"payload.steps": ["Too many."]}
    assert len(server.requests("GET", JOB)) == 1


def test_what_is_no_carillon_server_is_told_so(server: ContractServer, client: Carillon) -> None:
    server.script("GET", JOB, Reply("<html>", 404, {"Content-Type": "text/html"}))
    with pytest.raises(NotFound, match="No Carillon server answers at") as refused:
        client.job("job-1")
    assert refused.value.code == "unexpected_answer"
    server.script("GET", JOB, Reply(status=301, headers={"Location": "https://jobs.example.com/"}))
    with pytest.raises(RequestFailed, match=r"not there but at https://jobs\.example\.com/"):
        client.job("job-1")


def test_a_url_without_a_scheme_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="not the address of a server"):
        Carillon("127.0.0.1:5000", token="x")


def test_the_token_is_sent_and_a_netrc_file_is_not_asked(
    server: ContractServer, client: Carillon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.script("GET", JOB, Reply(a_job()))
    client.job("job-1")
    assert server.requests("GET", JOB)[0].headers["authorization"] == "Bearer token-1"


def only_with(token: str) -> object:
    def answer(asked: Asked) -> Reply:
        if asked.headers["authorization"] == f"Bearer {token}":
            return Reply(a_job())
        return refusal(401, "token_expired")

    return answer


def test_a_token_that_has_run_out_is_refreshed_once_for_all_threads(server: ContractServer) -> None:
    server.script("POST", "/api/auth/login", Reply({"accessToken": "old", "refreshToken": "first"}))
    server.script("GET", JOB, only_with("new"))

    def refresh(asked: Asked) -> Reply:
        time.sleep(0.1)
        return Reply({"accessToken": "new", "refreshToken": "second"})

    server.script("POST", "/api/auth/refresh", refresh)
    with Carillon(server.url, username="ann", password="secret") as client, ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(client.job, ["job-1"] * 8))
    assert len(jobs) == 8
    assert [each.body for each in server.requests("POST", "/api/auth/refresh")] == [{"refreshToken": "first"}]
    assert [each.body for each in server.requests("POST", "/api/auth/login")] == [
        {"username": "ann", "password": "secret"}
    ]


def test_a_session_that_has_ended_is_opened_anew_with_the_password(server: ContractServer) -> None:
    server.script(
        "POST",
        "/api/auth/login",
        Reply({"accessToken": "old", "refreshToken": "first"}),
        Reply({"accessToken": "new", "refreshToken": "other"}),
    )
    server.script("POST", "/api/auth/refresh", refusal(401, "invalid_token"))
    server.script("GET", JOB, only_with("new"))
    with Carillon(server.url, username="ann", password="secret") as client:
        assert client.job("job-1")["id"] == "job-1"
    assert len(server.requests("POST", "/api/auth/login")) == 2


def test_a_refresh_whose_answer_was_lost_is_tried_again(server: ContractServer) -> None:
    server.script("POST", "/api/auth/login", Reply({"accessToken": "old", "refreshToken": "first"}))
    server.script("POST", "/api/auth/refresh", CUT, Reply({"accessToken": "new", "refreshToken": "second"}))
    server.script("GET", JOB, only_with("new"))
    with Carillon(server.url, username="ann", password="secret") as client:
        assert client.job("job-1")["id"] == "job-1"


def test_a_fixed_token_that_is_refused_is_an_error(server: ContractServer, client: Carillon) -> None:
    server.script("GET", JOB, refusal(401, "token_expired"))
    with pytest.raises(NotAuthenticated):
        client.job("job-1")
    assert len(server.requests("GET", JOB)) == 1


@pytest.mark.parametrize(("status", "code"), [(429, "rate_limited"), (503, "service_unavailable")])
def test_retry_after_is_honoured(server: ContractServer, client: Carillon, status: int, code: str) -> None:
    server.script("POST", "/api/jobs", refusal(status, code, Retry_After="1"), Reply(a_job(), 202))
    began = time.monotonic()
    assert client.submit("demo-steps")["id"] == "job-1"
    assert time.monotonic() - began >= 1
    assert len(server.requests("POST", "/api/jobs")) == 2


def test_a_wait_beyond_the_patience_is_an_error_at_once(server: ContractServer, client: Carillon) -> None:
    server.script("GET", JOB, refusal(429, "rate_limited", Retry_After="60"))
    with pytest.raises(RateLimited) as refused:
        client.job("job-1")
    assert refused.value.retry_after == 60


def test_a_submission_whose_connection_broke_is_sent_again_under_the_same_key(
    server: ContractServer, client: Carillon
) -> None:
    server.script("POST", "/api/jobs", CUT, CUT, Reply(a_job(), 202))
    job = client.submit(
        "demo-steps",
        {"steps": 1},
        name="Mine",
        retry_limit=3,
        runAt=datetime(2026, 1, 2, tzinfo=UTC),
        tags=["a"],
    )
    assert job["id"] == "job-1"
    sent = server.requests("POST", "/api/jobs")
    assert len({each.headers["idempotency-key"] for each in sent}) == 1
    assert [each.body for each in sent] == [
        {
            "type": "demo-steps",
            "payload": {"steps": 1},
            "options": {"retryLimit": 3, "runAt": "2026-01-02T00:00:00+00:00", "tags": ["a"]},
            "name": "Mine",
        }
    ] * 3


def test_each_submission_has_a_key_of_its_own_unless_one_is_given(server: ContractServer, client: Carillon) -> None:
    server.script("POST", "/api/jobs", Reply(a_job(), 202))
    for key in (None, None, "mine"):
        client.submit("demo-steps", idempotency_key=key)
    keys = [each.headers["idempotency-key"] for each in server.requests("POST", "/api/jobs")]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_what_may_have_been_done_is_not_asked_twice(server: ContractServer, client: Carillon) -> None:
    server.script("POST", f"{JOB}/retry", CUT)
    with pytest.raises(NotReached) as lost:
        client.retry("job-1")
    assert lost.value.was_sent
    server.script("DELETE", JOB, refusal(503, "service_unavailable", Retry_After="0"))
    with pytest.raises(Unavailable):
        client.cancel("job-1", "enough")
    assert len(server.requests("POST", f"{JOB}/retry")) == 1
    assert [each.body for each in server.requests("DELETE", JOB)] == [{"reason": "enough"}]


def test_a_server_that_is_not_there_is_tried_until_it_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Carillon(f"http://127.0.0.1:{port}", token="x", patience=0.5) as client:
        began = time.monotonic()
        with pytest.raises(NotReached, match="cannot be reached") as lost:
            client.cancel("job-1")
        assert not lost.value.was_sent
        assert time.monotonic() - began < 5


def test_an_answer_that_does_not_come_is_given_up(server: ContractServer) -> None:
    ended = threading.Event()

    def late(asked: Asked) -> Reply:
        ended.wait(10)
        return Reply(a_job())

    server.script("GET", JOB, late)
    with Carillon(server.url, token="x", timeout=0.2, patience=0) as client, pytest.raises(NotReached, match="in time"):
        client.job("job-1")
    ended.set()


def test_lists_are_read_page_after_page_up_to_the_limit(server: ContractServer, client: Carillon) -> None:
    server.script("GET", "/api/jobs", page({"id": "3"}, {"id": "2"}, cursor="2"), page({"id": "1"}))
    assert [job["id"] for job in client.jobs(status="failed", tag=None)] == ["3", "2", "1"]
    first, second = server.requests("GET", "/api/jobs")
    assert first.query == {"status": "failed", "limit": "100"}
    assert second.query == {"status": "failed", "limit": "100", "cursor": "2"}
    server.asked.clear()
    server.script("GET", "/api/jobs", page({"id": "3"}, {"id": "2"}, cursor="2"))
    assert len(list(client.jobs(limit=2))) == 2
    assert [each.query for each in server.asked] == [{"limit": "2"}]


def test_a_log_is_followed_until_the_job_has_ended(server: ContractServer, client: Carillon) -> None:
    server.script("GET", JOB, Reply(a_job("active")), Reply(a_job("completed")))
    server.script("GET", f"{JOB}/logs", page({"id": "1"}), page({"id": "2"}, {"id": "3"}))
    assert [line["id"] for line in client.logs("job-1", follow=True)] == ["1", "2", "3"]
    assert [each.query.get("cursor") for each in server.requests("GET", f"{JOB}/logs")] == [None, "1"]


def test_the_inbox_is_read_and_marked(server: ContractServer, client: Carillon) -> None:
    inbox = {"data": [{"id": "n-1"}], "pagination": {"nextCursor": None}, "unreadCount": 7}
    server.script("GET", "/api/notifications", Reply(inbox))
    server.script("PATCH", "/api/notifications/n-1/read", Reply({"id": "n-1", "read": True}))
    server.script("PATCH", "/api/notifications/read-all", Reply({"count": 6}))
    assert [each["id"] for each in client.notifications(unread=True)] == ["n-1"]
    assert client.unread_count() == 7
    assert client.mark_read("n-1")["read"]
    assert client.mark_all_read() == 6


def test_the_client_and_the_commands_load_nothing_of_the_server() -> None:
    code = (
        "import sys, service.cli, service.client, service.commands.remote.submit\n"
        "print([name for name in ('flask', 'celery', 'sqlalchemy', 'marshmallow') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "[]"
