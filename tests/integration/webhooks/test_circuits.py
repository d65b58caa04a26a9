"""Circuit breakers, as several delivery processes share them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import time_machine

from service.clock import utcnow
from service.ids import new_id
from service.webhooks import circuits
from service.webhooks.circuits import Circuits, Report, probe_first, read_circuits

pytestmark = pytest.mark.usefixtures("in_app")

FAILED = Report(0, 1)
SUCCEEDED = Report(1, 0)


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """A clock that stands until it is moved."""
    with time_machine.travel(datetime.now(UTC).replace(microsecond=0), tick=False) as clock:
        yield clock


@pytest.fixture
def endpoint_id() -> UUID:
    return new_id()


def fail(process: Circuits, endpoint_id: UUID, times: int = 1) -> None:
    for _ in range(times):
        process.report({str(endpoint_id): FAILED})


def state(endpoint_id: UUID) -> str:
    return str(read_circuits([endpoint_id])[str(endpoint_id)]["state"])


def test_failures_in_a_row_open_a_circuit_for_every_process(clock: time_machine.Traveller, endpoint_id: UUID) -> None:
    one, other = Circuits(), Circuits()
    fail(one, endpoint_id, circuits.OPENS_AFTER - 1)
    assert str(endpoint_id) not in one.broken
    assert read_circuits([endpoint_id])[str(endpoint_id)] == {"state": "closed", "failures": 4, "until": None}
    fail(other, endpoint_id)
    one.refresh()
    for process in (one, other):
        assert str(endpoint_id) in process.broken
        assert not process.probe(str(endpoint_id))
        assert process.opens_at(str(endpoint_id)) == utcnow() + timedelta(seconds=circuits.OPEN_SECONDS)
    assert state(endpoint_id) == "open"


def test_a_success_between_failures_keeps_it_closed(endpoint_id: UUID) -> None:
    process = Circuits()
    for _ in range(3):
        fail(process, endpoint_id, circuits.OPENS_AFTER - 1)
        process.report({str(endpoint_id): SUCCEEDED})
    assert state(endpoint_id) == "closed"
    assert read_circuits([endpoint_id])[str(endpoint_id)]["failures"] == 0


def test_one_probe_goes_at_a_time_and_its_success_closes_the_circuit(
    clock: time_machine.Traveller, endpoint_id: UUID
) -> None:
    one, other = Circuits(), Circuits()
    fail(one, endpoint_id, circuits.OPENS_AFTER)
    clock.shift(circuits.OPEN_SECONDS)
    assert [process.probe(str(endpoint_id)) for process in (one, other, one)] == [True, False, False]
    assert state(endpoint_id) == "half_open"
    one.report({str(endpoint_id): SUCCEEDED})
    assert state(endpoint_id) == "closed"
    other.refresh()
    assert str(endpoint_id) not in other.broken


def test_each_probe_that_fails_doubles_the_wait_up_to_a_limit(clock: time_machine.Traveller, endpoint_id: UUID) -> None:
    process = Circuits()
    fail(process, endpoint_id, circuits.OPENS_AFTER)
    waits = []
    for _ in range(8):
        until = process.opens_at(str(endpoint_id))
        assert until is not None
        waits.append((until - utcnow()).total_seconds())
        clock.move_to(until, tick=False)
        assert process.probe(str(endpoint_id))
        fail(process, endpoint_id)
    assert waits == pytest.approx([15, 30, 60, 120, 240, 480, 600, 600], abs=0.01)


def test_what_was_under_way_when_it_opened_does_not_lengthen_it(
    clock: time_machine.Traveller, endpoint_id: UUID
) -> None:
    process = Circuits()
    process.report({str(endpoint_id): Report(0, 16)})
    fail(process, endpoint_id, 10)
    assert process.opens_at(str(endpoint_id)) == utcnow() + timedelta(seconds=circuits.OPEN_SECONDS)


def test_a_probe_that_was_lost_with_its_process_is_followed_by_another(
    clock: time_machine.Traveller, endpoint_id: UUID
) -> None:
    process = Circuits()
    fail(process, endpoint_id, circuits.OPENS_AFTER)
    clock.shift(circuits.OPEN_SECONDS)
    assert process.probe(str(endpoint_id))
    clock.shift(circuits.PROBE_SECONDS - 1)
    assert not process.probe(str(endpoint_id))
    clock.shift(1)
    assert process.probe(str(endpoint_id))


def test_an_endpoint_that_asks_to_be_left_alone_is(clock: time_machine.Traveller, endpoint_id: UUID) -> None:
    process = Circuits()
    process.report({str(endpoint_id): Report(0, circuits.OPENS_AFTER, wait=300)})
    assert process.opens_at(str(endpoint_id)) == utcnow() + timedelta(seconds=300)


def test_an_endpoint_that_is_switched_on_again_is_probed_first(
    clock: time_machine.Traveller, endpoint_id: UUID
) -> None:
    probe_first(endpoint_id)
    process = Circuits()
    process.refresh()
    assert str(endpoint_id) in process.broken
    assert [process.probe(str(endpoint_id)) for _ in range(2)] == [True, False]
