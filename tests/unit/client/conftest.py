"""The server of each test, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.client import Carillon
from tests.unit.client.contract import ContractServer


@pytest.fixture
def server() -> Iterator[ContractServer]:
    with ContractServer() as server:
        yield server


@pytest.fixture
def client(server: ContractServer) -> Iterator[Carillon]:
    with Carillon(server.url, token="token-1", timeout=5, patience=5) as client:
        yield client
