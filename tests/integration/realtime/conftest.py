"""What the tests of sockets and streams share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from flask import Flask


@pytest.fixture(scope="session", autouse=True)
def quiet_end(app: Flask) -> Iterator[None]:
    """Lets the gateway be silent once its Redis is stopped: it goes on looking for it as long as the process lives."""
    yield
    logging.getLogger("service.realtime.gateway").disabled = True
