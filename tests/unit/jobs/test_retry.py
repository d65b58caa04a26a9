"""The delay before the next attempt."""

from __future__ import annotations

import random

import pytest

from service.jobs.retry import JITTER, MAXIMUM_DELAY_SECONDS, STRATEGIES, retry_delay


@pytest.mark.parametrize(
    ("strategy", "factors"),
    [("exponential", [1, 2, 4, 8]), ("linear", [1, 2, 3, 4]), ("fixed", [1, 1, 1, 1])],
)
def test_strategies(strategy: str, factors: list[int]) -> None:
    rng = random.Random(1)
    for failures, factor in enumerate(factors, start=1):
        for _ in range(50):
            delay = retry_delay(strategy, 60.0, failures, rng)
            assert 60 * factor * (1 - JITTER) <= delay <= 60 * factor * (1 + JITTER)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_delay_is_capped_and_never_overflows(strategy: str) -> None:
    assert retry_delay(strategy, 86_400.0, 10_000, random.Random(1)) <= MAXIMUM_DELAY_SECONDS * (1 + JITTER)
