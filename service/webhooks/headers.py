"""The headers that an endpoint wants with every request: what they may be, how they are kept and how they are shown.

Their values are credentials more often than not, so they are encrypted at rest and nobody is shown them again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from service.crypto import decrypt, encrypt
from service.errors import ValidationFailed
from service.webhooks.http1 import is_reserved_header

MAXIMUM_HEADERS = 20
MAXIMUM_NAME_LENGTH = 100
MAXIMUM_VALUE_LENGTH = 1_000
# Shown in place of a value; sent back, it leaves the value as it is. No value can be this: it is not Latin-1.
MASK = "••••"

# A token of RFC 9110, and its field values without what is invisible.
_NAME = re.compile(rf"[!#$%&'*+.^_`|~0-9A-Za-z-]{{1,{MAXIMUM_NAME_LENGTH}}}")
_VALUE = re.compile(r"[\x21-\x7e\xa1-\xff](?:[\x20-\x7e\xa1-\xff]*[\x21-\x7e\xa1-\xff])?")


def faults_of(headers: Mapping[str, str]) -> dict[str, list[str]]:
    """What is wrong with headers as a client gives them, by their names; a masked value is none of it."""
    faults = {name: [fault] for name, value in headers.items() if (fault := _fault_of(name, value))}
    names = [name.lower() for name in headers]
    return faults | {name: ["Is given twice."] for name in headers if names.count(name.lower()) > 1}


def _fault_of(name: str, value: str) -> str | None:
    if not _NAME.fullmatch(name):
        return f"Is no name of a header of at most {MAXIMUM_NAME_LENGTH} characters."
    if is_reserved_header(name):
        return "Is set by the platform itself."
    if value != MASK and (len(value) > MAXIMUM_VALUE_LENGTH or not _VALUE.fullmatch(value)):
        return f"Must be 1 to {MAXIMUM_VALUE_LENGTH} visible characters of Latin-1, without blanks around them."
    return None


def seal_headers(headers: Mapping[str, str], sealed_before: bytes | None) -> bytes | None:
    """Headers as they are kept; None for none. A masked value is the one that stood there under this name.

    Raises ValidationFailed for a masked value where none stood.
    """
    before = {name.lower(): value for name, value in open_headers(sealed_before).items()}
    unknown = {name for name, value in headers.items() if value == MASK and name.lower() not in before}
    if unknown:
        raise ValidationFailed(errors={f"headers.{name}": ["Has no value yet."] for name in sorted(unknown)})
    values = {name: before[name.lower()] if value == MASK else value for name, value in headers.items()}
    return encrypt(json.dumps(values)) if values else None


def open_headers(sealed: bytes | None) -> dict[str, str]:
    """Headers with their values, from how they are kept."""
    return {} if sealed is None else dict(json.loads(decrypt(bytes(sealed))))


def masked_headers(sealed: bytes | None) -> dict[str, str]:
    """Headers as they are shown."""
    return dict.fromkeys(open_headers(sealed), MASK)
