"""Webhooks that arrive at an application: what is proved, and what is not and why."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from service.client import Carillon, WebhookNotVerified, verify_webhook
from tests.unit.client.contract import ContractServer, Reply

SECRET = "whsec_" + base64.b64encode(b"a secret that is long enough").decode()
OTHER = "whsec_" + base64.b64encode(b"another that is long enough").decode()
BODY = json.dumps({"type": "job.completed", "data": {"jobname": "Ärger"}}, ensure_ascii=False).encode()


def signed(*secrets: str, age: int = 0, body: bytes = BODY) -> dict[str, str]:
    """Headers as the stock library makes them, with a signature for each secret."""
    at = datetime.fromtimestamp(int(time.time()) - age, UTC)
    signatures = [Webhook(secret).sign("msg-1", at, body.decode()) for secret in secrets]
    return {
        "Webhook-Id": "msg-1",
        "Webhook-Timestamp": str(int(at.timestamp())),
        "Webhook-Signature": " ".join(["v1a,AAAA", *signatures]),
    }


@pytest.mark.parametrize("secrets", [(SECRET,), (OTHER, SECRET), (SECRET, OTHER)])
def test_what_the_holder_of_the_secret_signed_is_verified_also_while_secrets_are_exchanged(
    secrets: tuple[str, ...],
) -> None:
    assert verify_webhook(SECRET, signed(*secrets), BODY) == json.loads(BODY)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Webhook-Id": "msg-2"}, "No signature"),
        ({"Webhook-Signature": "v1,ä v1 , nonsense"}, "No signature"),
        ({"Webhook-Timestamp": "now"}, "not a time"),
        ({"Webhook-Timestamp": ""}, "webhook-timestamp is missing"),
    ],
)
def test_changed_headers_are_refused_with_the_reason(changes: dict[str, str], reason: str) -> None:
    with pytest.raises(WebhookNotVerified, match=reason):
        verify_webhook(SECRET, signed(SECRET) | changes, BODY)


def test_a_changed_body_and_another_secret_are_refused() -> None:
    for headers, body in ((signed(SECRET), BODY + b" "), (signed(OTHER), BODY)):
        with pytest.raises(WebhookNotVerified, match="No signature"):
            verify_webhook(SECRET, headers, body)
    with pytest.raises(WebhookNotVerified, match="webhook-id is missing"):
        verify_webhook(SECRET, {}, BODY)
    with pytest.raises(WebhookNotVerified, match="not JSON"):
        verify_webhook(SECRET, signed(SECRET, body=b"no JSON"), b"no JSON")


@pytest.mark.parametrize(("age", "reason"), [(400, r"4\d\d s old"), (-400, "ahead of this clock")])
def test_what_is_not_of_now_is_refused(age: int, reason: str) -> None:
    with pytest.raises(WebhookNotVerified, match=reason):
        verify_webhook(SECRET, signed(SECRET, age=age), BODY)


@pytest.mark.parametrize("nonsense", ["", "whsec_", "whsec_hidden word"])
def test_what_is_no_secret_is_told_without_telling_it(nonsense: str) -> None:
    with pytest.raises(ValueError, match=r"'whsec_' and base64$"):
        verify_webhook(nonsense, signed(SECRET), BODY)


def test_endpoints_are_made_listed_and_deleted(server: ContractServer, client: Carillon) -> None:
    server.script("POST", "/api/webhooks", Reply({"id": "w-1", "secret": SECRET}, 201))
    server.script("GET", "/api/webhooks", Reply({"data": [{"id": "w-1"}], "pagination": {}}))
    server.script("DELETE", "/api/webhooks/w-1", Reply(status=204))
    assert client.create_webhook("https://example.com/", "failed", payload_format="flat")["secret"] == SECRET
    (asked,) = server.requests("POST", "/api/webhooks")
    assert asked.body == {"url": "https://example.com/", "eventType": "failed", "payloadFormat": "flat"}
    assert [webhook["id"] for webhook in client.webhooks()] == ["w-1"]
    client.delete_webhook("w-1")
    assert len(server.requests("DELETE", "/api/webhooks/w-1")) == 1
