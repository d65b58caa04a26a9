"""What the tests of notifications share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask


@pytest.fixture
def change_settings(app: Flask) -> Iterator[Callable[..., None]]:
    """Gives the application other settings for the length of the test."""
    before = app.extensions["carillon_settings"]

    def change(**values: Any) -> None:
        app.extensions["carillon_settings"] = replace(app.extensions["carillon_settings"], **values)

    yield change
    app.extensions["carillon_settings"] = before
