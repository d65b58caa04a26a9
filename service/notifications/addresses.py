"""Whether an e-mail address or a phone number can be one, before anybody is asked to send to it."""

from __future__ import annotations

import phonenumbers
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, ValidatedEmail, validate_email
from phonenumbers import NumberParseException, PhoneNumberFormat

from service.notifications.providers.letters import Refused

BAD_ADDRESS = "bad_address"
LONGEST_NUMBER = 40

# Local networks, where platforms like this one live, have mail too; the library's list is there to be changed.
SPECIAL_USE_DOMAIN_NAMES[:] = [name for name in SPECIAL_USE_DOMAIN_NAMES if name not in {"local", "localhost", "test"}]


def parse_address(text: str) -> ValidatedEmail:
    """An e-mail address taken apart; no name server is asked. Raises email_validator.EmailNotValidError."""
    return validate_email(text, check_deliverability=False, globally_deliverable=False)


def email_address(text: str) -> str:
    """The address as mail servers want it: its domain in ASCII. Raises Refused."""
    try:
        address = parse_address(text)
    except EmailNotValidError as error:
        raise Refused(BAD_ADDRESS, str(error)) from None
    return address.ascii_email or address.normalized


def phone_number(text: str, region: str | None = None) -> str:
    """The number in E.164; one without a country code is of `region`. Raises Refused."""
    # The library finds numbers in any text; this is to be one.
    if len(text) > LONGEST_NUMBER or not text.isprintable():
        raise Refused(BAD_ADDRESS, "This is no phone number.")
    try:
        number = phonenumbers.parse(text, region)
    except NumberParseException as error:
        raise Refused(BAD_ADDRESS, str(error)) from None
    if not phonenumbers.is_valid_number(number):
        raise Refused(BAD_ADDRESS, "There is no such phone number.")
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)
