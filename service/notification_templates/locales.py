"""Languages by their BCP 47 tags: how they are written, and what may stand in for one."""

from __future__ import annotations

import re

DEFAULT = "en"
MAXIMUM_LENGTH = 35

_TAG = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*")


def normalised(tag: str) -> str | None:
    """The tag as it is stored, such as `de-AT` for `de_at`; None where it is none."""
    if len(tag) > MAXIMUM_LENGTH or _TAG.fullmatch(tag) is None:
        return None
    language, *others = tag.replace("_", "-").split("-")
    return "-".join([language.lower(), *(_cased(each) for each in others)])


def _cased(subtag: str) -> str:
    # As RFC 5646 writes them: regions in capitals, scripts in title case, the rest small.
    if len(subtag) == 2:
        return subtag.upper()
    return subtag.title() if len(subtag) == 4 and subtag.isalpha() else subtag.lower()


def fallbacks(tag: str | None) -> list[str]:
    """The locales to look for, the best first: `de-AT`, `de`, `en`."""
    wanted = normalised(tag) if tag else None
    parts = wanted.split("-") if wanted else []
    found = ["-".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return found if DEFAULT in found else [*found, DEFAULT]
