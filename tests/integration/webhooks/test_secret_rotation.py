"""Secrets that are exchanged without a receiver missing anything."""

from __future__ import annotations

import base64
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import time_machine
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from flask import Flask
from sqlalchemy import select
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from service.audit.models import AuditEntry
from service.crypto import decrypt
from service.database import db
from service.webhooks.models import WebhookOldSecret
from service.webhooks.rotation import MAXIMUM_OLD_SECRETS
from tests.acceptance.receiver import Post, Receiver
from tests.conftest import Account, MakeUser
from tests.integration.webhooks.conftest import Ask, Deliver

pytestmark = pytest.mark.usefixtures("in_app")

PATH = "/api/webhooks"


def create(ask: Ask, user: Account, url: str = "https://example.com/hook", **more: Any) -> dict[str, Any]:
    made = ask(user, "POST", PATH, {"url": url, "eventType": "completed", **more})
    assert made.status_code == 201
    webhook: dict[str, Any] = made.get_json()
    return webhook


def rotate(ask: Ask, user: Account, webhook: dict[str, Any], **body: Any) -> dict[str, Any]:
    answer = ask(user, "POST", f"{PATH}/{webhook['id']}/rotate-secret", body or None)
    assert answer.status_code == 200, answer.get_json()
    rotated: dict[str, Any] = answer.get_json()
    return rotated


def old_secrets(webhook: dict[str, Any]) -> list[str]:
    """Those that are kept, the newest first."""
    db.session.rollback()
    query = select(WebhookOldSecret.secret).where(WebhookOldSecret.webhook_id == UUID(webhook["id"]))
    return [decrypt(bytes(each)) for each in db.session.scalars(query.order_by(WebhookOldSecret.id.desc()))]


def verifies(post: Post, secret: str) -> bool:
    try:
        Verifier(secret).verify(post.body, post.headers)
    except WebhookVerificationError:
        return False
    return True


def test_old_and_new_secret_both_sign_until_the_overlap_is_over(
    ask: Ask, deliver: Deliver, receiver: Receiver, make_user: MakeUser
) -> None:
    user = make_user()
    webhook = create(ask, user, receiver.url)
    first = webhook["secret"]
    rotated = rotate(ask, user, webhook, overlapSeconds=3600)
    second = rotated["secret"]
    until = datetime.fromisoformat(rotated["oldSecretValidUntil"])
    assert timedelta(seconds=3590) < until - datetime.now(UTC) <= timedelta(hours=1)
    assert ask(user, "GET", f"{PATH}/{webhook['id']}/secret").get_json() == {"secret": second}
    assert (
        ask(user, "GET", f"{PATH}/{webhook['id']}").get_json()["oldSecretValidUntil"] == rotated["oldSecretValidUntil"]
    )

    def send() -> Post:
        ask(user, "POST", f"{PATH}/{webhook['id']}/test")
        assert deliver(webhook["id"]) == 1
        return receiver.posts()[-1]

    during = send()
    assert (verifies(during, first), verifies(during, second)) == (True, True)
    rotate(ask, user, webhook, overlapSeconds=0)
    after = send()
    assert (verifies(after, first), verifies(after, second)) == (False, False)
    assert verifies(after, ask(user, "GET", f"{PATH}/{webhook['id']}/secret").get_json()["secret"])


def test_secrets_of_several_rotations_live_as_long_as_each_was_given(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook = create(ask, user)
    given = [webhook["secret"]]
    with time_machine.travel(datetime.now(UTC), tick=False) as clock:
        week = rotate(ask, user, webhook, overlapSeconds=604_800)
        given.append(week["secret"])
        given.append(rotate(ask, user, webhook, overlapSeconds=60)["secret"])
        assert old_secrets(webhook) == [given[1], given[0]]
        shown = ask(user, "GET", f"{PATH}/{webhook['id']}").get_json()
        assert shown["oldSecretValidUntil"] == week["oldSecretValidUntil"], "the one that lives longest"
        clock.shift(61)
        rotate(ask, user, webhook)
        assert old_secrets(webhook) == [given[2], given[0]], "the one whose time was up is deleted"


def test_only_the_newest_few_are_kept(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook = create(ask, user)
    given = [webhook["secret"], *[rotate(ask, user, webhook)["secret"] for _ in range(MAXIMUM_OLD_SECRETS + 2)]]
    assert old_secrets(webhook) == given[-2 : -2 - MAXIMUM_OLD_SECRETS : -1]
    rotated = rotate(ask, user, webhook, overlapSeconds=0)
    assert (rotated["oldSecretValidUntil"], old_secrets(webhook)) == (None, [])


def test_a_key_pair_is_exchanged_with_the_secret(
    ask: Ask, deliver: Deliver, receiver: Receiver, make_user: MakeUser
) -> None:
    user = make_user()
    webhook = create(ask, user, receiver.url, signatureScheme="v1a")
    rotated = rotate(ask, user, webhook)
    assert rotated["publicKey"] not in (None, webhook["publicKey"])
    ask(user, "POST", f"{PATH}/{webhook['id']}/test")
    deliver(webhook["id"])
    (post,) = receiver.posts()
    signed = b"%b.%b.%b" % (post.webhook_id.encode(), post.headers["webhook-timestamp"].encode(), post.body)
    signatures = [each.removeprefix("v1a,") for each in post.headers["webhook-signature"].split() if each[:4] == "v1a,"]
    for public_key, signature in zip((rotated["publicKey"], webhook["publicKey"]), signatures, strict=True):
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
        key.verify(base64.b64decode(signature), signed)
    assert verifies(post, webhook["secret"])
    ask(user, "PATCH", f"{PATH}/{webhook['id']}", {"signatureScheme": "v1"})
    ask(user, "POST", f"{PATH}/{webhook['id']}/test")
    deliver(webhook["id"])
    assert "v1a," not in receiver.posts()[-1].headers["webhook-signature"]


@pytest.mark.parametrize("seconds", [-1, 604_801, 0.5, "a day", None])
def test_overlaps_that_are_none(ask: Ask, make_user: MakeUser, seconds: Any) -> None:
    user = make_user()
    webhook = create(ask, user)
    refused = ask(user, "POST", f"{PATH}/{webhook['id']}/rotate-secret", {"overlapSeconds": seconds})
    assert (refused.status_code, list(refused.get_json()["errors"])) == (422, ["overlapSeconds"])
    assert old_secrets(webhook) == []


def test_two_who_rotate_at_once_lose_no_secret(app: Flask, ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook = create(ask, user)
    given: list[str] = []

    def rotate_once() -> None:
        path = f"{PATH}/{webhook['id']}/rotate-secret"
        given.append(app.test_client().post(path, headers=user.headers).get_json()["secret"])

    threads = [threading.Thread(target=rotate_once) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    present = ask(user, "GET", f"{PATH}/{webhook['id']}/secret").get_json()["secret"]
    assert sorted([present, *old_secrets(webhook)]) == sorted([webhook["secret"], *given])


def test_rotations_and_readings_are_in_the_audit_log_without_the_secret(ask: Ask, make_user: MakeUser) -> None:
    user = make_user()
    webhook = create(ask, user)
    rotated = rotate(ask, user, webhook)
    ask(user, "GET", f"{PATH}/{webhook['id']}/secret")
    query = select(AuditEntry).where(AuditEntry.target_id == webhook["id"]).order_by(AuditEntry.id)
    entries = db.session.scalars(query).all()
    assert [entry.action for entry in entries] == ["webhook.create", "webhook.rotate_secret", "webhook.read_secret"]
    assert all(rotated["secret"] not in str(entry.details) for entry in entries)
