"""What an endpoint can be told: headers, a rate, a signature scheme; and what it tells of itself."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update

from service.audit.models import AuditEntry
from service.clock import utcnow
from service.database import db, transaction
from service.webhooks import actions
from service.webhooks.circuits import OPENS_AFTER, Circuits, Report, read_circuits
from service.webhooks.headers import MASK, open_headers
from service.webhooks.models import Webhook, WebhookDelivery
from service.webhooks.schemas import WebhookSchema
from tests.acceptance.receiver import Receiver
from tests.conftest import Account, MakeUser, Servers
from tests.factories.webhooks import endpoint, make_endpoint
from tests.integration.webhooks.conftest import Ask, Deliver

pytestmark = pytest.mark.usefixtures("in_app")

PATH = "/api/webhooks"
HOOK = {"url": "https://example.com/hook", "eventType": "completed"}


def create(ask: Ask, user: Account, **more: Any) -> dict[str, Any]:
    made = ask(user, "POST", PATH, {**HOOK, **more})
    assert made.status_code == 201, made.get_json()
    webhook: dict[str, Any] = made.get_json()
    return webhook


def values(webhook: dict[str, Any]) -> dict[str, str]:
    """The headers of an endpoint with their values."""
    return open_headers(endpoint(UUID(webhook["id"])).headers)


def test_all_that_an_endpoint_tells_is_documented(ask: Ask, make_user: MakeUser) -> None:
    webhook = create(ask, make_user(), signatureScheme="v1a", rateLimit=5)
    assert set(webhook) == set(WebhookSchema().fields)
    assert webhook["circuit"] == {"state": "closed", "failures": 0, "until": None}
    assert (webhook["failures"], webhook["failingSince"], webhook["backlog"]) == (0, None, False)
    assert (webhook["rateLimit"], webhook["oldSecretValidUntil"]) == (5, None)


def test_values_of_headers_are_encrypted_and_never_shown(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    headers = {"Authorization": "Basic dXNlcjpwYXNz", "X-Tenant": "grün"}
    webhook = create(ask, user, headers=headers)
    path = f"{PATH}/{webhook['id']}"
    masked = {"Authorization": MASK, "X-Tenant": MASK}
    assert webhook["headers"] == ask(user, "GET", path).get_json()["headers"] == masked
    assert ask(user, "GET", PATH).get_json()["data"][0]["headers"] == masked
    stored = endpoint(UUID(webhook["id"])).headers
    assert stored is not None
    assert b"dXNlcjpwYXNz" not in stored
    assert values(webhook) == headers
    entries = db.session.scalars(select(AuditEntry).where(AuditEntry.actor_id == user.id))
    assert "dXNlcjpwYXNz" not in json.dumps([entry.details for entry in entries])


def test_a_masked_value_that_is_sent_back_stays_as_it_is(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook = create(ask, user, headers={"X-One": "1", "X-Two": "2", "X-Three": "3"})
    path = f"{PATH}/{webhook['id']}"
    for method, headers, kept in (
        ("PATCH", {"x-one": MASK, "X-Two": "zwei"}, {"x-one": "1", "X-Two": "zwei"}),
        ("PUT", {"X-Two": MASK}, {"X-Two": "zwei"}),
        ("PATCH", {}, {}),
    ):
        assert ask(user, method, path, {"headers": headers}).status_code == 200
        assert values(webhook) == kept
    unknown = ask(user, "PATCH", path, {"headers": {"X-Four": MASK}})
    assert (unknown.status_code, list(unknown.get_json()["errors"])) == (422, ["headers.X-Four"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Host", "example.com"),
        ("webhook-signature", "v1,AAAA"),
        ("Webhook-Id", "1"),
        ("Content-Type", "text/plain"),
        ("content-length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("User-Agent", "me"),
        ("X Space", "1"),
        ("X-Colon:", "1"),
        ("", "1"),
        ("X-Smuggled\r\nHost", "1"),
        ("X-Long", "x" * 1_001),
        ("X-Empty", ""),
        ("X-Blank", " x"),
        ("X-Line", "one\r\nX-Two: 2"),
        ("X-Wide", "日本"),
        ("X-Number", 7),
        ("X-Null", None),
    ],
)
def test_headers_that_may_not_be_sent(ask: Ask, make_user: MakeUser, name: str, value: Any) -> None:
    refused = ask(make_user(), "POST", PATH, {**HOOK, "headers": {"X-Fine": "1", name: value}})
    assert refused.status_code == 422
    (field,) = refused.get_json()["errors"]
    assert field.startswith(f"headers.{name}")


def test_headers_are_few_and_each_is_given_once(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    many = {f"X-{number}": "1" for number in range(21)}
    refused = ask(user, "POST", PATH, {**HOOK, "headers": many})
    assert (refused.status_code, list(refused.get_json()["errors"])) == (422, ["headers"])
    twice = ask(user, "POST", PATH, {**HOOK, "headers": {"X-A": "1", "x-a": "2"}})
    assert sorted(twice.get_json()["errors"]) == ["headers.X-A", "headers.x-a"]
    many.popitem()
    assert len(create(ask, user, headers=many)["headers"]) == 20


def test_headers_come_with_every_request(ask: Ask, deliver: Deliver, receiver: Receiver, make_user: MakeUser) -> None:
    user = make_user()
    webhook = create(ask, user, url=receiver.url, headers={"X-Api-Key": "hush"})
    sample = ask(user, "POST", f"{PATH}/{webhook['id']}/test").get_json()
    deliver(webhook["id"])
    (post,) = receiver.posts()
    assert post.headers["x-api-key"] == "hush"
    shown = ask(user, "GET", f"/api/webhook-deliveries/{sample['id']}")
    assert shown.get_json()["attempts"][0]["request"]["headers"]["x-api-key"] == MASK
    assert "hush" not in shown.text


@pytest.mark.parametrize("rate", [0, 1_001, -1, 1.5, "fast", True])
def test_rates_that_are_none(ask: Ask, make_user: MakeUser, rate: Any) -> None:
    refused = ask(make_user(), "POST", PATH, {**HOOK, "rateLimit": rate})
    assert (refused.status_code, list(refused.get_json()["errors"])) == (422, ["rateLimit"])


def test_a_rate_is_set_and_taken_back(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    path = f"{PATH}/{create(ask, user)['id']}"
    assert ask(user, "PATCH", path, {"rateLimit": 1_000}).get_json()["rateLimit"] == 1_000
    assert ask(user, "PUT", path, {"description": "x"}).get_json()["rateLimit"] == 1_000
    assert ask(user, "PUT", path, {"rateLimit": None}).get_json()["rateLimit"] is None


def test_a_key_pair_comes_and_goes_with_its_scheme(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook = create(ask, user)
    path = f"{PATH}/{webhook['id']}"
    assert (webhook["signatureScheme"], webhook["publicKey"]) == ("v1", None)
    public_key = ask(user, "PATCH", path, {"signatureScheme": "v1a"}).get_json()["publicKey"]
    assert public_key.startswith("whpk_")
    assert ask(user, "PATCH", path, {"signatureScheme": "v1a"}).get_json()["publicKey"] == public_key, "it has one"
    assert ask(user, "PATCH", path, {"signatureScheme": "v1"}).get_json()["publicKey"] is None
    assert endpoint(UUID(webhook["id"])).signing_key is None
    assert ask(user, "POST", PATH, {**HOOK, "signatureScheme": "v2"}).status_code == 422


def test_a_user_has_no_more_endpoints_than_each_event_can_go_to(
    ask: Ask, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = make_user()
    monkeypatch.setattr(actions, "MAXIMUM_WEBHOOKS", 2)
    create(ask, user)
    create(ask, user, eventType="failed")
    refused = ask(user, "POST", PATH, {**HOOK, "eventType": "all"})
    assert (refused.status_code, refused.get_json()["code"]) == (409, "too_many_webhooks")
    create(ask, make_user())
    legacy = ask(user, "PATCH", "/api/auth/me", {"webhookUrl": "https://example.com/one"})
    assert legacy.status_code == 200, "the single URL of a profile is always there to be set"


def test_a_change_of_url_is_checked_and_forgets_what_was_known_of_the_old_one(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user, failures=99, failing_since=utcnow())
    Circuits().report({str(webhook_id): Report(0, OPENS_AFTER)})
    path = f"{PATH}/{webhook_id}"
    shown = ask(user, "GET", path).get_json()
    assert (shown["failures"], shown["circuit"]["state"]) == (99, "open")
    refused = ask(user, "PATCH", path, {"url": "http://10.0.0.1/"})
    assert (refused.status_code, list(refused.get_json()["errors"])) == (422, ["url"])
    moved = ask(user, "PATCH", path, {"url": "https://example.com/elsewhere"}).get_json()
    assert (moved["failures"], moved["failingSince"], moved["circuit"]["state"]) == (0, None, "closed")


def disabled(user: Account, **fields: Any) -> UUID:
    """An endpoint that the platform has switched off."""
    state = {"active": False, "disabled_reason": "failing", "failures": 100, "failing_since": utcnow()}
    return make_endpoint(user, **state, **fields)


def planned(webhook_id: UUID) -> list[WebhookDelivery]:
    db.session.rollback()
    return list(db.session.scalars(select(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id)))


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_one_that_the_platform_switched_off_is_tried_first(ask: Ask, make_user: MakeUser, method: str) -> None:
    user = make_user()
    webhook_id = disabled(user)
    shown = ask(user, method, f"{PATH}/{webhook_id}", {"active": True}).get_json()
    assert (shown["active"], shown["disabledReason"], shown["failures"], shown["failingSince"]) == (True, None, 0, None)
    assert shown["circuit"]["state"] == "half_open"
    (probe,) = planned(webhook_id)
    assert (probe.event_type, probe.status) == ("webhook.test", "pending")
    assert (shown["backlog"], probe.in_backlog) == (True, True), "what is planned meanwhile waits behind it"
    ask(user, method, f"{PATH}/{webhook_id}", {"active": True})
    assert len(planned(webhook_id)) == 1, "it is on already"


def test_one_that_its_owner_switched_off_just_goes_on(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    path = f"{PATH}/{webhook_id}"
    assert ask(user, "PATCH", path, {"active": False}).get_json()["disabledReason"] is None
    assert ask(user, "PATCH", path, {"active": True}).get_json()["circuit"]["state"] == "closed"
    assert planned(webhook_id) == []


def test_the_probe_of_a_flat_endpoint_is_what_its_receiver_knows(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = disabled(user, payload_format="flat")
    ask(user, "PATCH", f"{PATH}/{webhook_id}", {"active": True})
    assert [each.event_type for each in planned(webhook_id)] == ["job.completed"]


def test_while_redis_is_away_endpoints_are_shown_and_changed(ask: Ask, make_user: MakeUser, servers: Servers) -> None:
    user = make_user()
    webhook_id = disabled(user)
    servers.redis.stop()
    try:
        shown = ask(user, "PATCH", f"{PATH}/{webhook_id}", {"active": True})
    finally:
        servers.redis.start()
    assert shown.status_code == 200
    assert (shown.get_json()["active"], shown.get_json()["circuit"]) == (True, None)


def test_a_deleted_endpoint_leaves_no_circuit(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    Circuits().report({str(webhook_id): Report(0, OPENS_AFTER)})
    assert ask(user, "DELETE", f"{PATH}/{webhook_id}").status_code == 204
    assert read_circuits([webhook_id])[str(webhook_id)]["state"] == "closed"


def test_a_backlog_is_told_of(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook_id = make_endpoint(user)
    with transaction() as session:
        session.execute(update(Webhook).where(Webhook.id == webhook_id).values(backlog_at=utcnow()))
    assert ask(user, "GET", f"{PATH}/{webhook_id}").get_json()["backlog"] is True
