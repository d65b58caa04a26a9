"""When a delivery that failed is tried again: rules only, no clock and no database."""

import random
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

Verdict = Literal["success", "transient", "permanent", "gone", "proxy"]

#: Attempts in all for a failure that only its owner can mend.
PERMANENT_ATTEMPTS = 3
#: Seconds; the longest Retry-After that is obeyed.
RETRY_AFTER_LIMIT = 3600.0
#: Seconds before a delivery that the proxy failed is tried again: the first time, and at most.
PROXY_SECONDS = 5.0
PROXY_SECONDS_LIMIT = 300.0
#: Attempts that the proxy may fail; at that pace more than three days.
PROXY_ATTEMPTS = 1000

_TRANSIENT_STATUSES = frozenset({408, 425, 429})
_ERRORS: Mapping[str, Verdict] = {"blocked_address": "permanent", "proxy": "proxy"}


class Outcome(Protocol):
    """What these rules read of an attempt; ``sender.SendOutcome`` is one."""

    @property
    def status(self) -> int | None: ...
    @property
    def error_class(self) -> str | None: ...
    @property
    def retry_after(self) -> float | None: ...


def classify(outcome: Outcome) -> Verdict:
    """Judge one attempt.

    ``transient``: may mend itself (408, 425, 429, 5xx, everything on the network); the whole schedule.
    ``permanent``: wants a person (3xx, which is not followed, other 4xx, a refused address); three attempts.
    ``gone``: 410, the receiver asks to be left alone; the endpoint is to be disabled.
    ``proxy``: our own proxy failed; the endpoint was not asked, and nothing is charged to it.
    An error counts before a status: a 200 whose body never ends has both, and failed.
    """
    status = outcome.status
    if outcome.error_class is not None or status is None:
        return _ERRORS.get(outcome.error_class or "", "transient")
    if 200 <= status < 300:
        return "success"
    if status == 410:
        return "gone"
    return "transient" if status >= 500 or status in _TRANSIENT_STATUSES else "permanent"


def next_delay(
    attempt_number: int, outcome: Outcome, schedule: Sequence[float], jitter: float, rng: random.Random
) -> float | None:
    """Seconds from now to the next attempt, or None when there is none to come.

    ``attempt_number``: of the attempt just made, from 1. ``schedule``: seconds before each attempt, so its
    length is the number of attempts in all. ``jitter``: the share by which a delay is shortened or lengthened,
    so that a receiver that comes back is not stormed. Retry-After only ever lengthens a delay: a receiver that asks
    for an early return does not get more attempts by it than the schedule has.
    Raises ValueError when ``attempt_number`` is below 1.
    """
    if attempt_number < 1:
        raise ValueError("attempts are numbered from 1")
    verdict = classify(outcome)
    if verdict in ("success", "gone"):
        return None
    attempts = len(schedule)
    if verdict == "permanent":
        attempts = min(attempts, PERMANENT_ATTEMPTS)
    if attempt_number >= attempts:
        return None
    delay = schedule[attempt_number] * rng.uniform(1 - jitter, 1 + jitter)
    return max(delay, min(outcome.retry_after or 0.0, RETRY_AFTER_LIMIT))


def proxy_delay(failed_before: int, rng: random.Random) -> float:
    """Seconds to the next attempt at what the proxy failed, and failed so often before."""
    return min(PROXY_SECONDS * 2.0 ** min(failed_before, 10), PROXY_SECONDS_LIMIT) * rng.uniform(0.8, 1.2)
