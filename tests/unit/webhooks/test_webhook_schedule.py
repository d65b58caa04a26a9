"""When a failed delivery is tried again."""

import random
from dataclasses import dataclass

import pytest

from service.settings import Settings
from service.webhooks.schedule import classify, next_delay, proxy_delay

SETTINGS = Settings.from_env({})
SCHEDULE, JITTER = SETTINGS.webhook_schedule, SETTINGS.webhook_jitter


SCHEDULE = Settings.from_env({}).webhook_schedule
JITTER = Settings.from_env({}).webhook_jitter


@dataclass(frozen=True)
class Outcome:
    status: int | None = None
    error_class: str | None = None
    retry_after: float | None = None


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        *((Outcome(status), "success") for status in (200, 201, 202, 204, 299)),
        (Outcome(410), "gone"),
        *((Outcome(status), "permanent") for status in (400, 401, 403, 404, 405, 413, 422)),
        *((Outcome(status), "permanent") for status in (301, 302, 303, 304, 307, 308, 402, 418, 451)),
        *((Outcome(status), "transient") for status in (408, 425, 429, 500, 502, 503, 504, 599)),
        (Outcome(error_class="blocked_address"), "permanent"),
        (Outcome(error_class="proxy"), "proxy"),
        *((Outcome(error_class=word), "transient") for word in ("timeout", "connect_timeout", "dns", "tls")),
        *((Outcome(error_class=word), "transient") for word in ("connection_refused", "connection_reset")),
        *((Outcome(error_class=word), "transient") for word in ("unreachable", "protocol")),
        (Outcome(200, "timeout"), "transient"),
        (Outcome(error_class="proxy"), "proxy"),
        (Outcome(), "transient"),
    ],
)
def test_verdicts(outcome: Outcome, verdict: str) -> None:
    assert classify(outcome) == verdict


class Middle(random.Random):
    """No jitter: the middle of every range."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def delays(outcome: Outcome) -> list[float | None]:
    return [next_delay(attempt, outcome, SCHEDULE, JITTER, Middle()) for attempt in range(1, len(SCHEDULE) + 2)]


def test_a_transient_failure_walks_the_whole_schedule() -> None:
    assert delays(Outcome(503)) == [5, 30, 120, 600, 1800, 7200, 21600, None, None]


def test_a_permanent_failure_gets_three_attempts() -> None:
    assert delays(Outcome(404))[:4] == [5, 30, None, None]
    assert delays(Outcome(error_class="blocked_address"))[:4] == [5, 30, None, None]


@pytest.mark.parametrize("status", [200, 410])
def test_success_and_gone_are_not_tried_again(status: int) -> None:
    assert delays(Outcome(status)) == [None] * 9


def test_jitter_spreads_a_fifth_to_both_sides() -> None:
    rng = random.Random(1)
    seen = [next_delay(2, Outcome(500), SCHEDULE, JITTER, rng) or 0 for _ in range(2000)]
    assert 24 <= min(seen) < 24.5
    assert 35.5 < max(seen) <= 36


def test_retry_after_lengthens_a_delay_up_to_an_hour() -> None:
    assert next_delay(1, Outcome(429, retry_after=90), SCHEDULE, JITTER, Middle()) == 90
    assert next_delay(1, Outcome(429, retry_after=86400), SCHEDULE, JITTER, Middle()) == 3600
    assert next_delay(6, Outcome(429, retry_after=90), SCHEDULE, JITTER, Middle()) == 7200
    assert next_delay(8, Outcome(429, retry_after=90), SCHEDULE, JITTER, Middle()) is None


def test_another_schedule_may_be_given() -> None:
    assert next_delay(1, Outcome(500), (0, 1), JITTER, Middle()) == 1
    assert next_delay(2, Outcome(500), (0, 1), JITTER, Middle()) is None


def test_a_proxy_that_fails_is_tried_again_ever_more_seldom() -> None:
    assert [proxy_delay(failed, Middle()) for failed in (0, 1, 2, 5, 6, 1000)] == [5, 10, 20, 160, 300, 300]


def test_attempts_are_numbered_from_one() -> None:
    with pytest.raises(ValueError):
        next_delay(0, Outcome(500), SCHEDULE, JITTER, Middle())


def test_the_published_example_of_another_schedule() -> None:
    """Svix's, where what fails three times arrives after 35 minutes and 5 seconds."""
    theirs = (0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 10 * 3600)
    waits = [next_delay(attempt, Outcome(500), theirs, 0, random.Random()) for attempt in range(1, 9)]
    assert waits == [*theirs[1:], None]
    assert sum(wait or 0 for wait in waits[:3]) == 35 * 60 + 5
