"""How many deliveries go to one endpoint at once, and how fast."""

from bisect import bisect_left
from datetime import UTC, datetime, timedelta

import pytest

from service.webhooks.backlog import Pace
from service.webhooks.places import FIRST, Places

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def fill(places: Places, endpoint: str) -> int:
    taken = 0
    while places.room(endpoint):
        places.take(endpoint)
        taken += 1
    return taken


def test_an_endpoint_that_takes_what_it_is_sent_gets_more_at_once_up_to_the_limit() -> None:
    places = Places(500, most=64)
    assert fill(places, "well") == FIRST
    for _ in range(100):
        places.leave("well", is_well=True)
        fill(places, "well")
    assert places.free == 500 - 64


def test_an_endpoint_that_fails_is_down_to_one_place_soon_and_recovers() -> None:
    places = Places(500, most=64)
    taken = fill(places, "ill")
    for _ in range(taken):
        places.leave("ill", is_well=False)
    assert places.room("ill") == 1
    assert places.unusual() == {"ill": 1}
    for _ in range(FIRST - 1):
        places.take("ill")
        places.leave("ill", is_well=True)
    assert places.room("ill") == FIRST
    assert places.unusual() == {}, "nothing is kept of an endpoint that is as any other"


def test_endpoints_that_hang_leave_room_for_others() -> None:
    places = Places(500, most=64)
    for number in range(25):
        fill(places, f"hangs {number}")
    assert places.free >= 100
    for number in range(25):
        fill(places, f"hangs too {number}")
    assert [places.room(f"hangs {number}") for number in range(25)] == [0] * 25, "nobody gets more than is left"


def test_all_places_come_back() -> None:
    places = Places(10, most=4)
    for endpoint in "ab":
        for _ in range(fill(places, endpoint)):
            places.leave(endpoint, is_well=endpoint == "a")
    assert places.free == 10


@pytest.mark.parametrize("rate", [1, 3, 10, 50, 1000])
def test_a_pace_is_kept_whatever_the_moments_of_looking(rate: int) -> None:
    paced_until, sent = None, []
    for look in range(300):
        now = NOON + timedelta(milliseconds=17 * look + look % 7)
        pace = Pace.of(rate, paced_until, now)
        allowed = max(pace.allows(now), 0)
        sent += [now] * allowed
        paced_until = pace.after(allowed)
    seconds = (sent[-1] - NOON).total_seconds()
    assert len(sent) >= rate * seconds * 0.95, "nothing is wasted"
    for index, moment in enumerate(sent):
        within = bisect_left(sent, moment + timedelta(seconds=1)) - index
        assert within <= rate * 1.1 + 1


def test_a_pause_saves_nothing_up() -> None:
    pace = Pace.of(10, NOON, NOON + timedelta(hours=1))
    assert pace.allows(NOON + timedelta(hours=1)) == 1
