"""A job's context that only remembers: for running the body of a job type in the test's own process."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from service.ids import new_id
from service.jobs.errors import JobCancelled


class RecordedContext:
    """Stands in for `tasks.context.JobContext`; `cancel_after` progress calls it is cancelled."""

    def __init__(self, user_id: UUID, *, cancel_after: int | None = None) -> None:
        self.job_id = new_id()
        self.attempt = 1
        self.user_id = user_id
        self.reports: list[dict[str, Any]] = []
        self.lines: list[tuple[str, str]] = []
        self._cancel_after = cancel_after

    def check_cancelled(self) -> None:
        """Raises JobCancelled once enough was reported."""
        if self._cancel_after is not None and len(self.reports) >= self._cancel_after:
            raise JobCancelled

    def progress(self, current: float, total: float, message: str | None = None, detail: str | None = None) -> None:
        """Remembers a report."""
        self.check_cancelled()
        share = current / total if total else 0
        self.reports.append(
            {
                "current": current,
                "total": total,
                "percentage": round(share * 100),
                "message": message,
                "detail": detail,
            }
        )

    def stage(self, current: float, total: float, message: str, detail: str | None = None) -> None:
        """Remembers a report: what tells stages from progress is how they are sent."""
        self.progress(current, total, message, detail)

    def log(self, message: str, level: str = "info") -> None:
        """Remembers a line."""
        self.lines.append((level, message))
