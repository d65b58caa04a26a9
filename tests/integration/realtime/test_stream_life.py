"""How long a stream lives: signs of life while nothing happens, the end of its token, readers that fall behind."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.accounts.identity import Identity, identity_of
from service.accounts.tickets import issue_ticket
from service.realtime import stream
from service.realtime.log import append
from service.realtime.stream import Stream, Wanted
from tests.conftest import Account, MakeUser

pytestmark = pytest.mark.usefixtures("in_app")


@pytest.fixture
def user(make_user: MakeUser) -> Account:
    return make_user()


@contextmanager
def opened(client: FlaskClient, address: str, **options: Any) -> Iterator[Iterator[str]]:
    """What comes over a stream, piece by piece, after what it begins with."""
    answer = client.get(address, buffered=False, **options)
    assert answer.status_code == 200
    pieces = (piece.decode() if isinstance(piece, bytes) else piece for piece in answer.response)
    assert next(pieces).startswith("retry: ")
    try:
        yield pieces
    finally:
        answer.close()


def ticket_for(user: Account, seconds: float) -> str:
    """A ticket of a token that runs out in so many seconds."""
    identity: Identity = identity_of(user.token)
    return issue_ticket({**identity.claims, "exp": time.time() + seconds})


def test_a_silent_stream_shows_signs_of_life(
    client: FlaskClient, user: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stream.COMMENT_SECONDS <= 15
    monkeypatch.setattr(stream, "COMMENT_SECONDS", 0.05)
    with opened(client, "/api/events", headers=user.headers) as pieces:
        # A comment and not an event: clients do not hear it.
        assert [next(pieces) for _ in range(3)] == [": still here\n\n"] * 3


def test_a_stream_ends_when_its_token_does(client: FlaskClient, user: Account) -> None:
    began = time.monotonic()
    with opened(client, f"/api/events?ticket={ticket_for(user, 1)}") as pieces:
        assert set(pieces) <= {": still here\n\n"}
    assert 0.5 < time.monotonic() - began < 5


def test_events_come_until_then(client: FlaskClient, user: Account) -> None:
    change = {"event": "NotificationRead", "notificationId": None, "inbox": {"count": 0, "version": 1}}
    with opened(client, f"/api/events?ticket={ticket_for(user, 3)}") as pieces:
        append([(str(user.id), change)])
        event, number, data, *_ = next(pieces).splitlines()
    assert (event, json.loads(data.removeprefix("data: "))) == ("event: notification:read", {"id": None})
    assert number.startswith("id: ")


def test_a_reader_that_falls_behind_is_cut_off_and_reads_on_from_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_WAITING", 3)
    slow = Stream(Wanted("somebody"), None, None)
    for number in range(10):
        slow.put({"number": number})
    # In order and without a hole up to where it ends.
    assert list(slow.read(time.time() + 60)) == [{"number": number} for number in range(3)]
