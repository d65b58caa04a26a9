"""One platform for all that is hurt here; every test finds it whole and leaves it so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.platform import Person, Platform
from tests.acceptance.workers import Workers


@pytest.fixture
def platform(suffering: Platform) -> Iterator[Platform]:
    """A platform that may be hurt."""
    suffering.mend()
    yield suffering
    suffering.mend()


@pytest.fixture
def workers(platform: Platform) -> Iterator[Workers]:
    """Workers of this test alone, instead of the platform's own."""
    with Workers(platform) as workers:
        yield workers


@pytest.fixture
def person(platform: Platform) -> Person:
    """Somebody new on it."""
    return platform.newcomer()
