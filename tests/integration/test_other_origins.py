"""Pages of other origins: what a browser asks before it sends a request of theirs, and what it lets them read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service import create_app
from service.settings import Settings

ALLOWED = "https://app.example.com"


@pytest.fixture
def open_client(app: Flask) -> FlaskClient:
    """A client of an application that pages of one other origin may use."""
    settings: Settings = app.extensions["carillon_settings"]
    return create_app(replace(settings, cors_origins=(ALLOWED,))).test_client()


def preflight(client: FlaskClient, origin: str) -> dict[str, str]:
    """What a browser is told that asks whether a page may submit a job."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, idempotency-key",
    }
    answer = client.options("/api/jobs", headers=headers)
    assert answer.status_code == 200
    return {name.lower(): value for name, value in answer.headers.items() if name.startswith("Access-Control")}


def test_a_named_origin_may_submit_and_read(open_client: FlaskClient) -> None:
    told = preflight(open_client, ALLOWED)
    assert told["access-control-allow-origin"] == ALLOWED
    assert "POST" in told["access-control-allow-methods"]
    allowed = {name.strip().lower() for name in told["access-control-allow-headers"].split(",")}
    assert {"authorization", "content-type", "idempotency-key"} <= allowed
    refused = open_client.get("/api/jobs", headers={"Origin": ALLOWED})
    assert refused.status_code == 401
    assert refused.headers["Access-Control-Allow-Origin"] == ALLOWED, "errors are for reading too"
    assert "X-Request-ID" in refused.headers["Access-Control-Expose-Headers"]


def test_other_origins_are_told_nothing(open_client: FlaskClient, client: FlaskClient) -> None:
    assert preflight(open_client, "https://elsewhere.example.com") == {}
    assert preflight(client, ALLOWED) == {}, "nobody is named unless the settings do"
