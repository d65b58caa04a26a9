"""What a running job has in its hands: progress, stages, logs, and the question whether to go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Literal, TypeVar
from uuid import UUID

from celery import Task

from service.artifacts.actions import leave_artifact
from service.artifacts.models import Artifact
from service.artifacts.sources import Source
from service.clock import utcnow
from service.events import JobProgressed, publish
from service.jobs.actions import add_logs
from service.jobs.dependencies import Parent, parents_of
from service.jobs.sealing import seal_text
from service.notifier.channels import webhook
from service.text import storable
from tasks.application import flask_app, in_application
from tasks.lease import Attempt, stopping, until_written
from tasks.progress import Report, Reporter, report_of

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
        attempt.last_words = self._say_last
        attempt.keep_lines = self._keep_waiting_lines
        self._started_at = time.monotonic()
        self._webhook_at = 0.0
        self._lines: list[tuple[str, str, Any]] = []
        self._lines_lock = threading.RLock()
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
    def is_last_attempt(self) -> bool:
        """Whether no other attempt follows when this one fails."""
        row = self._attempt.row
        return bool(row["attempt"] >= row["max_attempts"] + row["rescues"])

    @property
    def user_id(self) -> UUID:
        """The owner of this job."""
        return UUID(str(self._attempt.row["user_id"]))

    @property
    def organization_id(self) -> UUID:
        """The tenant of this job."""
        return UUID(str(self._attempt.row["organization_id"]))

    def parents(self) -> dict[str, Parent]:
        """The jobs that this one depended on, with their results: by ref in a workflow, else by id."""
        with in_application():
            return parents_of(self.job_id)

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
        report = report_of(current, total, message, detail, time.monotonic() - self._started_at)
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
        with self._lines_lock:
            self._lines.append((level, text, utcnow()))
            if len(self._lines) >= LINES_AT_ONCE:
                self._keep_lines()

    def artifact(
        self, name: str, source: Source, *, content_type: str | None = None, expires_in: float | None = None
    ) -> Artifact:
        """Leave a file for the job's owner, called `name`; one that this attempt has left by that name is replaced.

        `source` is bytes, text, a `Path`, or a file open in binary mode, which is read from where it stands, a piece
        at a time. The content type is guessed from the name where none is given; `expires_in` is in seconds, the
        setting ARTIFACT_RETENTION_DAYS where none is given. The file is stored as it is, of a sensitive job too. Raises
        InvalidArtifact, ArtifactTooLarge and TooManyArtifacts, which are permanent, StorageFull, JobCancelled and
        LeaseLost; nothing is left of the file then.
        """
        # In a context of its own: whether the body's transaction commits is the body's business.
        with flask_app().app_context():
            return leave_artifact(
                self._attempt.row,
                name,
                source,
                content_type=content_type,
                expires_in=expires_in,
                go_on=self.check_cancelled,
                keep_trying=until_written,
            )

    def check_cancelled(self) -> None:
        """Raise JobCancelled when somebody cancelled the job, LeaseLost when another worker has it."""
        if self._attempt.verdict is not None:
            raise self._attempt.verdict

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Have `callback` called once when somebody cancels the job, or another worker has it.

        For a body that waits where it cannot ask: close the socket, kill the subprocess. It is called from another
        thread than the body's, at once if the job is cancelled already; an exception in it is logged and stops nothing.
        A body that has not ended after its type's `cancel_grace` or CANCEL_GRACE_SECONDS is killed with its process.
        """
        self._attempt.on_cancel(callback)

    @property
    def stopping(self) -> bool:
        """Whether the worker stops: the body has SHUTDOWN_GRACE_SECONDS to finish, then WorkerStopping is raised in it.

        A body that keeps checkpoints may raise WorkerStopping itself: the job is queued again at once.
        """
        return stopping.is_set()

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until somebody cancels the job."""
        self._attempt.must_end.wait(seconds)
        self.check_cancelled()

    def close(self) -> None:
        """Send and keep what waits; the worker calls it when the job's body has ended."""
        self._reporter.close()
        self._keep_lines()

    def _say_last(self, message: str) -> None:
        self.log(message, "warning")
        self._keep_lines()

    def _keep_lines(self) -> None:
        with self._lines_lock:
            until_written(self._write_lines)

    def _keep_waiting_lines(self) -> None:
        """Have the lines so far be read by who follows the job; from the thread that must not wait for the body."""
        if self._lines and self._lines_lock.acquire(blocking=False):
            try:
                self._write_lines()
            finally:
                self._lines_lock.release()

    def _write_lines(self) -> None:
        if self._lines:
            lines = self._lines
            if self._attempt.is_sensitive:
                lines = [(level, seal_text(text, self._attempt.owner), at) for level, text, at in lines]
            add_logs(self.job_id, self.attempt, lines)
            self._lines = []

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
