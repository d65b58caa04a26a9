"""What the tests of webhooks share: a client of the API, a receiver, and a sender without a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.settings import current_settings
from service.webhooks.attempt import attempt
from service.webhooks.guard import Guard
from service.webhooks.outbox import claim_due, record_attempts
from service.webhooks.sender import Sender
from tests.acceptance.receiver import Receiver
from tests.conftest import Account

Ask = Callable[..., TestResponse]
Deliver = Callable[[UUID | str], int]

MANY = 100_000


@pytest.fixture
def ask(client: FlaskClient) -> Ask:
    """A request in a user's name."""

    def send(user: Account, method: str, path: str, body: Any = None) -> TestResponse:
        return client.open(path, method=method, json=body, headers=user.headers)

    return send


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A webhook receiver that accepts everything."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def deliver(in_app: None) -> Iterator[Deliver]:
    """Sends what is due to an endpoint, as a worker does; how many."""
    sender = Sender(Guard(current_settings().webhook_networks))

    def send(webhook_id: UUID | str) -> int:
        rows = [row for row in claim_due(MANY, MANY, {}).rows if str(row["webhook_id"]) == str(webhook_id)]
        record_attempts([attempt(row, sender) for row in rows])
        return len(rows)

    yield send
    sender.close()
