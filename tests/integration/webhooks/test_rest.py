"""`/api/webhooks` over HTTP, and what is planned for an endpoint."""

from __future__ import annotations

from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from service.database import db
from service.webhooks.models import Webhook
from service.webhooks.outbox import claim_due, record_attempts
from tests.conftest import MakeUser
from tests.factories.jobs import run_a_job
from tests.factories.webhooks import outcome

HOOK = {"url": "https://example.com/hook", "eventType": "completed"}


def test_create_read_change_delete(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    made = client.post("/api/webhooks", json={**HOOK, "description": "mine"}, headers=user.headers)
    assert made.status_code == 201
    webhook = made.get_json()
    secret = webhook.pop("secret")
    assert secret.startswith("whsec_")
    path = made.headers["Location"]
    assert client.get(path, headers=user.headers).get_json() == webhook
    assert client.get(f"{path}/secret", headers=user.headers).get_json() == {"secret": secret}
    changed = client.patch(path, json={"active": False, "eventType": "all"}, headers=user.headers).get_json()
    assert (changed["active"], changed["eventType"], changed["url"]) == (False, "all", HOOK["url"])
    assert client.get("/api/webhooks", headers=user.headers).get_json()["pagination"]["total"] == 1
    assert client.delete(path, headers=user.headers).status_code == 204
    assert client.get(path, headers=user.headers).get_json()["code"] == "webhook_not_found"


def test_the_secret_is_encrypted_at_rest(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    webhook = client.post("/api/webhooks", json=HOOK, headers=make_user().headers).get_json()
    with app.app_context():
        stored = db.session.scalar(select(Webhook.secret).where(Webhook.id == UUID(webhook["id"])))
    assert stored is not None
    assert webhook["secret"].removeprefix("whsec_").encode() not in bytes(stored)


def test_the_same_endpoint_twice_is_a_conflict(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    client.post("/api/webhooks", json=HOOK, headers=user.headers)
    twice = client.post("/api/webhooks", json=HOOK, headers=user.headers)
    assert (twice.status_code, twice.get_json()["code"]) == (409, "webhook_exists")
    other = client.post("/api/webhooks", json={**HOOK, "eventType": "failed"}, headers=user.headers)
    assert other.status_code == 201
    moved = client.patch(other.headers["Location"], json={"eventType": "completed"}, headers=user.headers)
    assert moved.status_code == 409
    assert client.post("/api/webhooks", json=HOOK, headers=make_user().headers).status_code == 201


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "http://user:secret@example.com/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest",
        "http://[::1]/",
        "http://2130706433/",
        "javascript:alert(1)",
        "http://",
        "",
    ],
)
def test_urls_that_may_not_be_reached(client: FlaskClient, make_user: MakeUser, url: str) -> None:
    refused = client.post("/api/webhooks", json={**HOOK, "url": url}, headers=make_user().headers)
    assert refused.status_code == 422
    assert list(refused.get_json()["errors"]) == ["url"]


def test_another_users_endpoint(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    operator = make_user(("admin", "operator"), organization=user.organization_id)
    stranger = make_user()
    path = client.post("/api/webhooks", json=HOOK, headers=user.headers).headers["Location"]
    routes = [(method, "") for method in ("GET", "PATCH", "PUT", "DELETE")]
    routes += [("GET", "/secret"), ("GET", "/deliveries"), ("POST", "/test"), ("POST", "/rotate-secret")]
    for method, suffix in routes:
        arguments = {} if method in ("GET", "DELETE") else {"json": {}}
        for who, status in ((operator, 403), (stranger, 404)):
            answer = client.open(path + suffix, method=method, headers=who.headers, **arguments)
            assert answer.status_code == status, (method, suffix)


def test_only_active_endpoints_of_the_owner_that_asked_get_a_delivery(
    app: Flask, client: FlaskClient, make_user: MakeUser
) -> None:
    user = make_user()
    paths = {}
    for event_type in ("completed", "failed", "all"):
        made = client.post("/api/webhooks", json={**HOOK, "eventType": event_type}, headers=user.headers)
        paths[event_type] = made.headers["Location"]
    idle = client.post("/api/webhooks", json={**HOOK, "url": "https://example.org/"}, headers=user.headers)
    client.patch(idle.headers["Location"], json={"active": False}, headers=user.headers)
    run_a_job(app, user)

    def planned(path: str) -> list[str]:
        page = client.get(f"{path}/deliveries", headers=user.headers).get_json()
        return [delivery["eventType"] for delivery in page["data"] if delivery["status"] == "pending"]

    assert planned(paths["completed"]) == ["job.completed"]
    assert planned(paths["failed"]) == []
    assert planned(paths["all"]) == ["job.completed", "job.started", "job.created"]
    assert planned(idle.headers["Location"]) == []


def test_a_sender_that_was_away_records_nothing(app: Flask, client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    path = client.post("/api/webhooks", json=HOOK, headers=user.headers).headers["Location"]
    run_a_job(app, user)

    def status() -> str:
        page = client.get(f"{path}/deliveries", headers=user.headers).get_json()
        return str(page["data"][0]["status"])

    with app.app_context():
        claimed = [row for row in claim_due(1000, 1000, {}).rows if str(row["webhook_id"]) == path.rpartition("/")[2]]
        assert len(claimed) == 1
        delivery = claimed[0]
        again = claim_due(1000, 1000, {}).rows
        assert not [row for row in again if row["id"] == delivery["id"]], "it is leased"
        record_attempts([outcome({**delivery, "attempts": delivery["attempts"] - 1}, "failed", "permanent")])
        assert status() == "delivering"
        record_attempts([outcome(delivery)])
    assert status() == "delivered"
