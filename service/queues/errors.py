"""What can go wrong with queues and limits."""

from __future__ import annotations

from service.errors import NotFound


class QueueNotFound(NotFound):
    """There is no such queue."""

    code = "queue_not_found"


class LimitNotFound(NotFound):
    """No limit was set for this subject."""

    code = "limit_not_found"
