"""What every error answer must look like."""

from __future__ import annotations

import re

import requests

# The contract: one shape everywhere.
_ALWAYS = {"code", "message", "status", "requestId"}
_LEAKS = re.compile(r"Traceback|<html|<!doctype|File \"|sqlalchemy|psycopg|werkzeug", re.IGNORECASE)


def assert_error(answer: requests.Response, status: int, code: str | None = None) -> dict[str, object]:
    """The answer has this status and the one error shape, and tells nothing of the inside; returns its body."""
    __tracebackhide__ = True
    assert answer.status_code == status, f"{answer.status_code} instead of {status}: {answer.text[:500]}"
    assert answer.headers["Content-Type"] == "application/json", answer.text[:500]
    assert not _LEAKS.search(answer.text), answer.text[:500]
    body: dict[str, object] = answer.json()
    assert body.keys() - {"errors"} == _ALWAYS, body
    assert body["status"] == status
    assert isinstance(body["code"], str)
    assert re.fullmatch(r"[a-z][a-z_]*", body["code"]), body
    assert body["message"]
    assert body["requestId"] == answer.headers["X-Request-ID"]
    if code is not None:
        assert body["code"] == code, body
    return body
