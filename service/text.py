"""Text that can be stored: what PostgreSQL and UTF-8 cannot hold is replaced, or noticed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

# An escaped NUL, and not a backslash before the letters.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def storable(text: str) -> str:
    """The text without NUL characters and halves of surrogate pairs; file names, for one, may hold both."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def is_storable_json(value: Any) -> bool:
    """Whether a JSON value holds only text that can be stored; raises what `json.dumps` raises."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return _NUL.search(text) is None


def levels(document: Any) -> Iterator[list[Any]]:
    """The values of a JSON value by how deeply they are nested: itself alone, what is in it, what is in that."""
    level = [document]
    while level:
        yield level
        level = [value for each in level for value in _inside(each)]


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()
