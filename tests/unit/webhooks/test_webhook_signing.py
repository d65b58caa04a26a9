"""Signatures, judged by the stock library of the standard."""

import base64
import re
import time

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook, WebhookVerificationError

from service.webhooks.signing import new_secret, new_signing_key, sign

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


EXAMPLE = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
EXAMPLE_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_example_of_the_standard() -> None:
    """The vector that the standard's own libraries test with."""
    headers = sign([EXAMPLE_SECRET], *EXAMPLE)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_example_of_svix() -> None:
    """From "Verifying Webhooks Manually" in its documentation."""
    headers = sign(
        ["whsec_plJ3nmyCDGBKInavdOK15jsl"],
        "msg_loFOjxBNrRLzqYUf",
        1731705121,
        b'{"event_type":"ping","data":{"success":true}}',
    )
    assert headers["webhook-signature"] == "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="


@pytest.mark.parametrize(
    ("key", "signature"),
    [
        # Svix's server, whose signature is the example in the standard's text too: seed and public key.
        (
            "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==",
            "hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
        ),
        # The standard's Go library: the seed alone.
        (
            "VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=",
            "tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==",
        ),
    ],
    ids=["svix", "go"],
)
def test_the_examples_of_ed25519(key: str, signature: str) -> None:
    tokens = sign([EXAMPLE_SECRET], *EXAMPLE, [key])["webhook-signature"].split(" ")
    assert tokens == ["v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", f"v1a,{signature}"]


def test_the_public_key_alone_verifies_a_signature_and_no_forgery_of_it() -> None:
    (private, public), (other, _) = new_signing_key(), new_signing_key()
    assert private.startswith("whsk_")
    assert len(base64.b64decode(private.removeprefix("whsk_"), validate=True)) == 64
    assert private != other
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_"), validate=True))
    header = sign([new_secret()], "msg_1", 1614265330, BODY, [private, other])["webhook-signature"]
    assert re.fullmatch(r"v1,[A-Za-z0-9+/=]{44} v1a,[A-Za-z0-9+/=]{88} v1a,[A-Za-z0-9+/=]{88}", header)
    ours, others = [base64.b64decode(token.removeprefix("v1a,")) for token in header.split(" ")[1:]]
    signed = b"msg_1.1614265330." + BODY
    key.verify(ours, signed)
    for signature, text in ((ours, signed + b" "), (others, signed)):
        with pytest.raises(InvalidSignature):
            key.verify(signature, text)


def test_the_stock_library_verifies_among_signatures_of_old_secrets_and_of_keys() -> None:
    new, old, older = new_secret(), new_secret(), new_secret()
    keys = [new_signing_key()[0], new_signing_key()[0]]
    headers = sign([new, old, older], "msg_1", int(time.time()), BODY, keys)
    versions = [token.partition(",")[0] for token in headers["webhook-signature"].split(" ")]
    assert versions == ["v1", "v1", "v1", "v1a", "v1a"]
    for secret in (new, old, older):
        assert Webhook(secret).verify(BODY, headers)["type"] == "job.completed"
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers)


@pytest.mark.parametrize(
    "key",
    [
        "whsk_",
        "whsk_not base64!",
        "whsk_c2hvcnQ=",
        "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
        # The public half is another key's.
        "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlaaaaaaaaaaAJ6p9lMicMFs6Kvg==",
    ],
)
def test_bad_signing_keys_are_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ValueError) as caught:
        sign([new_secret()], "msg_1", 1, b"", [key])
    assert not key[5:] or key[5:] not in str(caught.value)


@pytest.mark.parametrize("secrets", [[], ["whsec_"], ["whsec_not base64!"], ["whsec_abc"]])
def test_bad_secrets_are_refused_and_not_repeated(secrets: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        sign(secrets, "msg_1", 1, b"")
    assert not any(secret[6:] and secret[6:] in str(caught.value) for secret in secrets)


@pytest.mark.parametrize("message_id", ["", "a.b", "a\r\nb", "a b", "é", "a" * 256])
def test_an_id_that_could_be_read_in_two_ways_is_refused(message_id: str) -> None:
    with pytest.raises(ValueError):
        sign([new_secret()], message_id, 1, b"")
