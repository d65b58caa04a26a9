"""What a running job has in its hands: progress, stages, logs, and the question whether to go on."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, Literal, TypeVar
from uuid import UUID

from celery import Task

from service.clock import utcnow
from service.events import JobProgressed, publish
from service.jobs.actions import add_logs
from service.jobs.errors import JobCancelled, LeaseLost
from service.notifier.channels import webhook
from service.text import storable
from tasks.application import flask_app
from tasks.lease import Attempt, until_written
from tasks.progress import Report, Reporter

T = TypeVar("T")
Level = Literal["debug", "info", "warning", "error"]

MAXIMUM_LINE_LENGTH = 8_192
MAXIMUM_LINES = 10_000
LINES_AT_ONCE = 100
# Progress webhooks leave at most once a second per job (contract, "Webhooks").
WEBHOOK_SECONDS = 1.0


class JobContext:
    """The first argument of every job: `ctx`."""

    def __init__(self, attempt: Attempt, task: Task) -> None:
        self._attempt = attempt
        self._task = task
        self._task_id = task.request.id
        self._reporter = attempt.reporter = Reporter(self._send)
        self._started_at = time.monotonic()
        self._webhook_at = 0.0
        self._lines: list[tuple[str, str, Any]] = []
        self._line_count = 0

    @property
    def job_id(self) -> UUID:
        """The id of this job; with `attempt` a key that makes effects happen once."""
        return UUID(self._attempt.job_id)

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self._attempt.number

    @property
    def user_id(self) -> UUID:
        """The owner of this job."""
        return UUID(str(self._attempt.row["user_id"]))

    @property
    def organization_id(self) -> UUID:
        """The tenant of this job."""
        return UUID(str(self._attempt.row["organization_id"]))

    def progress(self, current: float, total: float, message: str | None = None, detail: str | None = None) -> None:
        """Tell how far the job has come: `current` of `total` steps.

        Call it as often as you like: ten a second leave the process, the last one always does. Raises JobCancelled
        when somebody cancelled the job.
        """
        self._reporter.report(self._report(current, total, message, detail))

    def stage(self, current: float, total: float, message: str, detail: str | None = None) -> None:
        """Enter a named stage of the job: like `progress`, but told even when the next one follows at once."""
        self._reporter.report_stage(self._report(current, total, message, detail))

    def _report(self, current: float, total: float, message: str | None, detail: str | None) -> Report:
        self.check_cancelled()
        share = min(max(current / total, 0.0), 1.0) if total > 0 else 0.0
        percentage = round(share * 100, 1)
        whole = int(percentage)
        report: Report = {
            "current": current,
            "total": total,
            "percentage": whole if whole == percentage else percentage,
        }
        if message is not None:
            report["message"] = storable(message)
        if detail is not None:
            report["detail"] = storable(detail)
        if 0 < share < 1:
            elapsed = time.monotonic() - self._started_at
            report["etaSeconds"] = round(elapsed / share - elapsed, 1)
        self._attempt.progress = report
        return report

    def track(self, items: Iterable[T], message: str | None = None, total: int | None = None) -> Iterator[T]:
        """The items one by one, with progress after each; `total` where they have no length."""
        count = total if total is not None else len(items) if isinstance(items, Sized) else 0
        for done, item in enumerate(items):
            self.check_cancelled()
            yield item
            self.progress(done + 1, count, message)

    def log(self, message: str, level: Level = "info") -> None:
        """Keep a line that the job's owner can read; beyond 10,000 lines nothing more is kept."""
        self._line_count += 1
        if self._line_count > MAXIMUM_LINES:
            return
        text = storable(message)[:MAXIMUM_LINE_LENGTH]
        self._lines.append((level, text, utcnow()))
        if len(self._lines) >= LINES_AT_ONCE:
            self._keep_lines()

    def check_cancelled(self) -> None:
        """Raise JobCancelled when somebody cancelled the job, LeaseLost when another worker has it."""
        if self._attempt.cancel_requested.is_set():
            raise JobCancelled
        if self._attempt.lost.is_set():
            raise LeaseLost

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until somebody cancels the job."""
        if self._attempt.cancel_requested.wait(seconds):
            raise JobCancelled
        self.check_cancelled()

    def close(self) -> None:
        """Send and keep what waits; the worker calls it when the job's body has ended."""
        self._reporter.close()
        self._keep_lines()

    def _keep_lines(self) -> None:
        if self._lines:
            lines, self._lines = self._lines, []
            until_written(lambda: add_logs(self.job_id, self.attempt, lines))

    def _send(self, report: Report, is_last: bool) -> None:
        # In a context of its own: the thread that sends what was held back has none, the body's session is the body's.
        with flask_app().app_context():
            # What comes of the job is stored in a moment in place of its last report.
            if not is_last:
                self._task.update_state(task_id=self._task_id, state="PROGRESS", meta=report)
            row = self._attempt.row
            publish(JobProgressed(row, report, is_last=is_last))
            now = time.monotonic()
            if now - self._webhook_at >= WEBHOOK_SECONDS and webhook.wants_progress(str(row["user_id"])):
                self._webhook_at = now
                webhook.plan_progress(row, report)
