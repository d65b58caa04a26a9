"""Signatures, judged by the stock library of the standard."""

import base64
import re
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from service.webhooks.signing import new_secret, sign

BODY = '{"type":"job.completed","data":{"name":"Zoë ☂"}}'.encode()


def test_new_secret_is_32_random_bytes() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    assert first.startswith("whsec_")
    assert len(base64.b64decode(first.removeprefix("whsec_"), validate=True)) == 32


def test_the_stock_library_verifies_one_secret() -> None:
    secret = new_secret()
    headers = sign([secret], "msg_1", int(time.time()), BODY)
    assert set(headers) == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    assert Webhook(secret).verify(BODY, headers)["type"] == "job.completed"


def test_the_stock_library_verifies_both_of_two_secrets() -> None:
    new, old = new_secret(), new_secret()
    headers = sign([new, old], "msg_1", int(time.time()), BODY)
    assert re.fullmatch(r"v1,[A-Za-z0-9+/=]{44} v1,[A-Za-z0-9+/=]{44}", headers["webhook-signature"])
    for secret in (new, old):
        assert Webhook(secret).verify(BODY, headers)["type"] == "job.completed"


def test_the_stock_library_refuses_another_secret_body_id_and_time() -> None:
    secret, now = new_secret(), int(time.time())
    headers = sign([secret], "msg_1", now, BODY)
    forgeries = [
        (new_secret(), BODY, headers),
        (secret, BODY + b" ", headers),
        (secret, BODY, {**headers, "webhook-id": "msg_2"}),
        (secret, BODY, {**headers, "webhook-timestamp": str(now + 1)}),
    ]
    for key, body, sent in forgeries:
        with pytest.raises(WebhookVerificationError):
            Webhook(key).verify(body, sent)


def test_the_example_of_the_standard() -> None:
    """The vector that the standard's own libraries test with."""
    headers = sign(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secrets", [[], ["whsec_"], ["whsec_not base64!"], ["whsec_abc"]])
def test_bad_secrets_are_refused_and_not_repeated(secrets: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        sign(secrets, "msg_1", 1, b"")
    assert not any(secret[6:] and secret[6:] in str(caught.value) for secret in secrets)


@pytest.mark.parametrize("message_id", ["", "a.b", "a\r\nb", "a b", "é", "a" * 256])
def test_an_id_that_could_be_read_in_two_ways_is_refused(message_id: str) -> None:
    with pytest.raises(ValueError):
        sign([new_secret()], message_id, 1, b"")
