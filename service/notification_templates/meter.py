"""What a rendering may cost: each step is counted here, and what comes of it is measured."""

from __future__ import annotations

import time
from typing import Any

# Characters that a part may have, and so any text on the way to it.
MAXIMUM_OUTPUT = 256 * 1024
MAXIMUM_STEPS = 100_000
# Of the processor: a machine that has no time for us does not break a template.
MAXIMUM_SECONDS = 1.0
# Elements of a list that a template makes.
MAXIMUM_ITEMS = 10_000
# Beyond any amount or time; numbers that multiply themselves end here.
MAXIMUM_BITS = 256


class LimitReached(Exception):
    """A template wants more than a rendering may cost; the message says of what."""


class Meter:
    """The cost of one rendering so far."""

    def __init__(self) -> None:
        self._steps = 0
        self._output = 0
        self._ends = time.thread_time() + MAXIMUM_SECONDS

    def tick(self) -> None:
        """One step; raises LimitReached after too many or too long."""
        self._steps += 1
        if self._steps > MAXIMUM_STEPS:
            raise LimitReached(f"It takes more than {MAXIMUM_STEPS} steps.")
        if time.thread_time() > self._ends:
            raise LimitReached(f"It takes longer than {MAXIMUM_SECONDS:g} s.")

    def written(self, text: str) -> None:
        """A piece of a part; raises LimitReached where the part grows too long."""
        self._output += len(text)
        check_length(self._output)

    def next_part(self) -> None:
        """Begin another part, with a length of its own."""
        self._output = 0


def check_length(characters: int) -> None:
    """Refuse (LimitReached) a text that is about to be made too long."""
    if characters > MAXIMUM_OUTPUT:
        raise LimitReached(f"It makes a text of more than {MAXIMUM_OUTPUT} characters.")


def made(value: Any) -> Any:
    """What an operation has made or is about to read; raises LimitReached where it is too large."""
    if isinstance(value, str):
        check_length(len(value))
    elif isinstance(value, int):
        if value.bit_length() > MAXIMUM_BITS:
            raise LimitReached("It makes a number that is too large.")
    elif isinstance(value, (list, tuple, dict)) and len(value) > MAXIMUM_ITEMS:
        raise LimitReached(f"It makes a list of more than {MAXIMUM_ITEMS} elements.")
    return value
