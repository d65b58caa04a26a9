"""The AsyncAPI document as a test reads it: which message something is, and whether its data is what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from jsonschema import Draft7Validator, FormatChecker

Document = dict[str, Any]

FORMATS = FormatChecker(formats=())
FORMATS.checks("uuid", raises=ValueError)(lambda value: not isinstance(value, str) or bool(UUID(value)))


@FORMATS.checks("date-time", raises=ValueError)
def is_time(value: object) -> bool:
    """Whether something is a time as the contract writes it."""
    return not isinstance(value, str) or (value.endswith("Z") and bool(datetime.fromisoformat(value)))


def problems(document: Document, key: str, data: Any) -> list[str]:
    """What of some data is not as its message says."""
    payload = document["components"]["messages"][key]["payload"]
    schema = {"components": document["components"], "allOf": [payload]}
    found = Draft7Validator(schema, format_checker=FORMATS).iter_errors(data)
    return [f"{key}: {error.json_path}: {error.message}" for error in found]


def _candidates(document: Document, address: str, name: str) -> Iterator[str]:
    """The messages that may have this name at this address; rooms have the name itself for an address."""
    messages = document["components"]["messages"]
    for channel in document["channels"].values():
        pattern = re.sub(r"\\{\w+\\}", "[^:/]+", re.escape(channel["address"]))
        is_room = ":" in channel["address"] and address == "/"
        if re.fullmatch(pattern, name if is_room else address):
            yield from (key for key in channel["messages"] if is_room or messages[key]["name"] == name)


def recognize(document: Document, address: str, name: str, data: Any) -> str:
    """The one message of an address that this is; fails when there is none, or more than one."""
    __tracebackhide__ = True
    candidates = list(_candidates(document, address, name))
    fitting = [key for key in candidates if not problems(document, key, data)]
    wrong = [problem for key in candidates for problem in problems(document, key, data)]
    assert len(fitting) == 1, f"{name} at {address} is {fitting or wrong or 'not in the document'}: {data}"
    return fitting[0]
