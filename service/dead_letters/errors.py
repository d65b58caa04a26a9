"""What can go wrong with dead letters."""

from __future__ import annotations

from service.errors import NotFound


class DeadLetterNotFound(NotFound):
    """The job is no dead letter."""

    code = "dead_letter_not_found"
