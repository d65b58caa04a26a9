"""The statuses of a job and the moves between them, as the contract names them."""

from __future__ import annotations

SCHEDULED = "scheduled"
BLOCKED = "blocked"
QUEUED = "queued"
ACTIVE = "active"
RETRYING = "retrying"
COMPLETED = "completed"
FAILED = "failed"
CANCELLED = "cancelled"

STATUSES = (SCHEDULED, BLOCKED, QUEUED, ACTIVE, RETRYING, COMPLETED, FAILED, CANCELLED)
FINAL = frozenset({COMPLETED, FAILED, CANCELLED})
# Waiting jobs end at once when they are cancelled; an active one is asked to stop.
WAITING = frozenset({SCHEDULED, BLOCKED, QUEUED, RETRYING})

# A waiting job that waits too long fails as expired.
MOVES: dict[str, frozenset[str]] = {
    SCHEDULED: frozenset({QUEUED, FAILED, CANCELLED}),
    BLOCKED: frozenset({QUEUED, SCHEDULED, FAILED, CANCELLED}),
    QUEUED: frozenset({ACTIVE, FAILED, CANCELLED}),
    # Back to queued when its worker died.
    ACTIVE: frozenset({COMPLETED, FAILED, RETRYING, CANCELLED, QUEUED}),
    RETRYING: frozenset({QUEUED, FAILED, CANCELLED}),
    COMPLETED: frozenset(),
    # A dead letter, or a cancelled job, that somebody retries: with its workflow it may wait for others again.
    FAILED: frozenset({QUEUED, BLOCKED}),
    CANCELLED: frozenset({QUEUED, BLOCKED}),
}

# The older words that filters accept (contract: "Statuses of a job").
OLDER_WORDS = {
    "waiting": (QUEUED,),
    "delayed": (SCHEDULED, RETRYING),
    "pending": (QUEUED,),
    "processing": (ACTIVE,),
}


def statuses_of(word: str) -> tuple[str, ...]:
    """The statuses a filter word stands for; raises KeyError for a word that is none."""
    return (word,) if word in STATUSES else OLDER_WORDS[word]
