"""Which texts can be e-mail addresses and phone numbers."""

from __future__ import annotations

import pytest

from service.notifications.addresses import email_address, phone_number
from service.notifications.providers.letters import Refused


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ann@example.com", "ann@example.com"),
        ("ann@Example.COM", "ann@example.com"),
        ("ann@bücher.example.com", "ann@xn--bcher-kva.example.com"),
        ("carillon@localhost", "carillon@localhost"),
        ("jürgen@example.com", "jürgen@example.com"),
    ],
)
def test_an_address_is_as_mail_servers_want_it(text: str, address: str) -> None:
    assert email_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "ann", "@example.com", "a@b@c.com", "ann@example.com\r\nBcc: x@example.com", "a b@example.com", "a@b, c@d"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refusal:
        email_address(text)
    assert refusal.value.reason == "bad_address"


@pytest.mark.parametrize(
    ("text", "region"), [("+491701234567", None), ("+49 (170) 123-4567", None), ("0170 1234567", "DE")]
)
def test_a_number_becomes_e164(text: str, region: str | None) -> None:
    assert phone_number(text, region) == "+491701234567"


@pytest.mark.parametrize(
    "text",
    ["", "0170 1234567", "+4912", "+49151123456789012", "call me", "+491701234567\n", "+4917012345678 or so" * 5],
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refusal:
        phone_number(text)
    assert refusal.value.reason == "bad_address"
