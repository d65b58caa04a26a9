"""`/webhooks` as the clients of S0 know it."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from service.compat.schemas import OlderWebhookSchema
from tests.conftest import Account, MakeUser

HOOK = {"url": "https://example.com/hook", "eventType": "completed", "description": "mine"}


def create(client: FlaskClient, user: Account, **changes: Any) -> dict[str, Any]:
    """An endpoint made on the older path."""
    made = client.post("/webhooks", json={**HOOK, **changes}, headers=user.headers)
    assert made.status_code == 201, made.get_json()
    assert set(made.get_json()) == {"webhook"}
    webhook: dict[str, Any] = made.get_json()["webhook"]
    return webhook


def test_create_list_read_change_delete(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    webhook = create(client, user)
    assert set(webhook) == set(OlderWebhookSchema().fields), "what is sent is documented"
    assert webhook.pop("secret").startswith("whsec_")
    assert {name: webhook[name] for name in HOOK} == HOOK
    assert (webhook["active"], webhook["userId"]) == (True, str(user.id))
    path = f"/webhooks/{webhook['id']}"
    assert client.get("/webhooks", headers=user.headers).get_json() == {"webhooks": [webhook]}
    assert client.get(path, headers=user.headers).get_json() == {"webhook": webhook}

    changed = client.put(path, json={"active": False, "eventType": "all"}, headers=user.headers)
    assert changed.status_code == 200
    now = changed.get_json()["webhook"]
    assert (now["active"], now["eventType"], now["url"], now["description"]) == (False, "all", HOOK["url"], "mine")

    deleted = client.delete(path, headers=user.headers)
    assert (deleted.status_code, deleted.get_json()) == (200, {"message": "Webhook deleted successfully"})
    assert client.get("/webhooks", headers=user.headers).get_json() == {"webhooks": []}
    assert client.get(path, headers=user.headers).get_json()["code"] == "webhook_not_found"


def test_an_endpoint_made_here_gets_the_flat_payload(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    webhook = create(client, user, payloadFormat="standard")
    made = client.get(f"/api/webhooks/{webhook['id']}", headers=user.headers).get_json()
    assert made["payloadFormat"] == "flat"
    assert client.get(f"/api/webhooks/{webhook['id']}/secret", headers=user.headers).get_json() == {
        "secret": webhook["secret"]
    }


def test_an_endpoint_made_under_api_keeps_its_payload(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    path = client.post("/api/webhooks", json=HOOK, headers=user.headers).headers["Location"]
    changed = client.put(
        path.removeprefix("/api"), json={"description": "changed", "payloadFormat": "flat"}, headers=user.headers
    )
    assert changed.get_json()["webhook"]["description"] == "changed"
    assert client.get(path, headers=user.headers).get_json()["payloadFormat"] == "standard"


def test_a_form_may_send_the_whole_object_back(client: FlaskClient, make_user: MakeUser) -> None:
    user, other = make_user(), make_user()
    webhook = create(client, user)
    edited = {**webhook, "active": False, "userId": str(other.id), "organizationId": str(other.organization_id)}
    changed = client.put(f"/webhooks/{webhook['id']}", json=edited, headers=user.headers)
    assert changed.status_code == 200
    assert (changed.get_json()["webhook"]["active"], changed.get_json()["webhook"]["userId"]) == (False, str(user.id))
    assert client.get("/webhooks", headers=other.headers).get_json() == {"webhooks": []}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"eventType": "all"}, "url"),
        ({"url": HOOK["url"]}, "eventType"),
        ({**HOOK, "eventType": "created"}, "eventType"),
        ({**HOOK, "url": "http://169.254.169.254/latest"}, "url"),
    ],
)
def test_what_is_missing_or_wrong_is_named(
    client: FlaskClient, make_user: MakeUser, body: dict[str, Any], field: str
) -> None:
    refused = client.post("/webhooks", json=body, headers=make_user().headers)
    assert (refused.status_code, list(refused.get_json()["errors"])) == (422, [field])
    assert refused.get_json()["message"]


def test_the_same_endpoint_twice_is_a_conflict(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    create(client, user)
    other = create(client, user, eventType="failed")
    twice = client.post("/webhooks", json=HOOK, headers=user.headers)
    moved = client.put(f"/webhooks/{other['id']}", json={"eventType": "completed"}, headers=user.headers)
    for refused in (twice, moved):
        assert (refused.status_code, refused.get_json()["code"]) == (409, "webhook_exists")


def test_another_users_endpoint_is_not_ones_own(client: FlaskClient, make_user: MakeUser) -> None:
    owner = make_user()
    operator = make_user(("admin", "operator"), organization=owner.organization_id)
    stranger = make_user()
    path = f"/webhooks/{create(client, owner)['id']}"
    for method, arguments in (("GET", {}), ("PUT", {"json": {"active": False}}), ("DELETE", {})):
        for who, status in ((operator, 403), (stranger, 404)):
            answer = client.open(path, method=method, headers=who.headers, **arguments)
            assert answer.status_code == status, method
    assert client.get(path, headers=owner.headers).get_json()["webhook"]["active"] is True


def test_the_single_url_of_a_user_is_one_of_his_endpoints(client: FlaskClient, make_user: MakeUser) -> None:
    user = make_user()
    client.patch("/api/auth/me", json={"webhookUrl": "https://example.com/old"}, headers=user.headers)
    [webhook] = client.get("/webhooks", headers=user.headers).get_json()["webhooks"]
    assert (webhook["url"], webhook["eventType"]) == ("https://example.com/old", "completed")
    client.delete(f"/webhooks/{webhook['id']}", headers=user.headers)
    assert client.get("/api/auth/me", headers=user.headers).get_json()["webhookUrl"] is None
