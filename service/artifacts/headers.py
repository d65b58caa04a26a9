"""What the headers of a download ask for and say: `Range` (RFC 9110) and `Content-Disposition` (RFC 6266)."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

from service.artifacts.errors import RangeNotSatisfiable

# More digits than any size has are no range that anybody means.
_RANGE = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE)
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9 ._()+,=@~-]")


def wanted_range(header: str, size: int) -> tuple[int, int] | None:
    """The first byte and the count of bytes that a `Range` header wants of so many; None where all are sent.

    All are sent where the header is malformed, of another unit, or names several ranges, as the standard allows.
    Raises RangeNotSatisfiable.
    """
    found = _RANGE.fullmatch(header)
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        return _checked(size - min(int(last), size), size, size)
    if last and int(last) < int(first):
        return None
    return _checked(int(first), int(last) + 1 if last else size, size)


def _checked(start: int, end: int, size: int) -> tuple[int, int]:
    if start >= size:
        raise RangeNotSatisfiable
    return start, min(end, size) - start


def attachment(name: str) -> str:
    """`Content-Disposition` for a file to be saved as `name`, whatever stands in it."""
    # Without paths, and without what steers a terminal or turns the direction of writing around.
    visible = "".join(each for each in name if unicodedata.category(each)[0] != "C")
    safe = re.sub(r"[/\\]", "_", visible).strip(" .") or "artifact"
    plain = _NOT_PLAIN.sub("_", unicodedata.normalize("NFKD", safe).encode("ascii", "ignore").decode()).strip(" .")
    return f"attachment; filename=\"{plain or 'artifact'}\"; filename*=UTF-8''{quote(safe, safe='')}"
