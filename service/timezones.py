"""Names of time zones."""

from __future__ import annotations

from functools import cache
from zoneinfo import available_timezones

import marshmallow as ma

# Entries of the database that name no place.
_NO_TIMEZONES = {"Factory", "localtime"}


@cache
def _timezones() -> frozenset[str]:
    return frozenset(available_timezones() - _NO_TIMEZONES)


def check_timezone(value: str) -> None:
    """Raise marshmallow's ValidationError for what is no name of a time zone."""
    if value not in _timezones():
        raise ma.ValidationError("Not a time zone of the IANA database, such as Europe/Berlin.")
