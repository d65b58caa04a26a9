"""What the body of a webhook says: the payload of a delivery, in the format of its endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

STANDARD = "standard"
FLAT = "flat"
PAYLOAD_FORMATS = (STANDARD, FLAT)


def body_of(payload: Mapping[str, Any], payload_format: str) -> bytes:
    """The bytes that are sent and signed: the whole payload, or as `flat` its data alone, as S0's receivers know it."""
    document = flat_data(payload["data"]) if payload_format == FLAT else payload
    return _encode(document).encode()


# `json.dumps` would make an encoder for each body.
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def flat_data(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data of a payload as S0's receivers know it: progress is a number, 0 to 100."""
    progress = data.get("progress")
    return data if progress is None else {**data, "progress": progress["percentage"]}
