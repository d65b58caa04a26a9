"""A kit for testing job types: the body runs in the test's own process, with a context that remembers everything.

    from tasks.testing import run_job

    def test_every_picture_is_shrunk():
        run = run_job("thumbnails", {"paths": ["a.png", "b.png"]})
        run.assert_completed()
        run.assert_progress_grows()
        assert run.result == {"count": 2}

Payload, result and errors go through the platform's own code, so a test sees what the API would show. No database,
Redis, Flask or settings are needed unless the body asks for them itself.
"""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeVar
from uuid import UUID

from service.artifacts.descriptions import Description
from service.artifacts.models import Artifact
from service.artifacts.sources import Source, chunks_of, content_type_of
from service.clock import utcnow
from service.errors import CarillonError
from service.ids import new_id
from service.jobs.dependencies import Parent
from service.jobs.errors import JobCancelled, WorkerStopping
from service.jobs.registry import Body, JobType, all_job_types, find_job_type, get_job_type
from service.jobs.retry import strategy_delay
from service.text import storable
from tasks import load_job_types
from tasks.context import MAXIMUM_LINE_LENGTH, Level
from tasks.outcome import asked_delay, checked_result, conceal, describe
from tasks.progress import Report, report_of

T = TypeVar("T")
Status = Literal["completed", "failed", "cancelled", "retrying", "queued"]

_LINES_SHOWN = 10
# What ARTIFACT_RETENTION_DAYS is where nobody has set it.
_ARTIFACT_SECONDS = 30 * 86400.0


class LogLine(NamedTuple):
    """A line that a job logged."""

    level: str
    message: str


@dataclass(frozen=True)
class LeftFile:
    """An artifact that a job left."""

    content_type: str
    data: bytes

    @property
    def text(self) -> str:
        """The file as text; raises UnicodeDecodeError where it is none."""
        return self.data.decode()


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self, traveller: Any) -> None:
        self._traveller = traveller

    def now(self) -> datetime:
        """The present moment, in UTC."""
        return utcnow()

    def move(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self._traveller.shift(timedelta(seconds=seconds))

    def move_to(self, moment: datetime | str) -> None:
        """Go to a moment; raises ValueError for one without a zone."""
        self._traveller.move_to(_aware(moment))


# The clocks of the `frozen_time` blocks around this moment; the innermost counts.
_clocks: list[Clock] = []


@contextmanager
def frozen_time(at: datetime | str | None = None) -> Iterator[Clock]:
    """Freeze the time of this process `at` a moment (ISO 8601 as text; now where none is given).

    Inside, `ctx.sleep` and the delays of `run_until_done` move the clock. Raises RuntimeError where the package
    time-machine is missing, ValueError for a moment without a zone.
    """
    try:
        import time_machine
    except ImportError:
        raise RuntimeError("frozen_time needs time-machine: pip install 'carillon[testing]'") from None
    with time_machine.travel(utcnow() if at is None else _aware(at), tick=False) as traveller:
        clock = Clock(traveller)
        _clocks.append(clock)
        try:
            yield clock
        finally:
            _clocks.remove(clock)


def _aware(moment: datetime | str) -> datetime:
    parsed = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    if parsed.tzinfo is None:
        raise ValueError(f"{moment} has no zone: say 2026-03-01T12:00:00Z")
    return parsed.astimezone(UTC)


def _let_pass(seconds: float) -> None:
    if _clocks:
        _clocks[-1].move(seconds)


class RecordingContext:
    """Stands in for `tasks.context.JobContext`, with all that it can do; what a body tells it is kept in lists."""

    def __init__(
        self,
        *,
        job_id: UUID,
        attempt: int,
        is_last_attempt: bool,
        user_id: UUID,
        organization_id: UUID,
        parents: Mapping[str, Parent],
        is_cancelled: Callable[[RecordingContext], bool],
        stop_after: int | None,
        on_progress: Callable[[Report], object],
    ) -> None:
        self._job_id = job_id
        self._attempt = attempt
        self._is_last_attempt = is_last_attempt
        self._user_id = user_id
        self._organization_id = organization_id
        self._parents = parents
        self._is_cancelled = is_cancelled
        self._stop_after = stop_after
        self._on_progress = on_progress
        self._callbacks: list[Callable[[], object]] = []
        self._began = time.time()
        self.reports: list[Report] = []
        self.stages: list[str] = []
        self.lines: list[LogLine] = []
        self.artifacts: dict[str, LeftFile] = {}
        # Seconds that the body wanted to wait.
        self.slept = 0.0
        self.cancelled = False
        self._look()

    @property
    def job_id(self) -> UUID:
        """The id of this job."""
        return self._job_id

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self._attempt

    @property
    def is_last_attempt(self) -> bool:
        """Whether no other attempt follows when this one fails."""
        return self._is_last_attempt

    @property
    def user_id(self) -> UUID:
        """The owner of this job."""
        return self._user_id

    @property
    def organization_id(self) -> UUID:
        """The tenant of this job."""
        return self._organization_id

    def parents(self) -> dict[str, Parent]:
        """The parents that the test gave."""
        return dict(self._parents)

    def progress(self, current: float, total: float, message: str | None = None, detail: str | None = None) -> None:
        """Keep a report: every one, where a worker would send ten a second."""
        self.check_cancelled()
        self._on_progress(report := report_of(current, total, message, detail, self._elapsed()))
        self.reports.append(report)
        self._look()

    def stage(self, current: float, total: float, message: str, detail: str | None = None) -> None:
        """Keep a report, and the name of the stage."""
        self.progress(current, total, message, detail)
        self.stages.append(message)

    def track(self, items: Iterable[T], message: str | None = None, total: int | None = None) -> Iterator[T]:
        """The items one by one, with progress after each."""
        count = total if total is not None else len(items) if isinstance(items, Sized) else 0
        for done, item in enumerate(items):
            self.check_cancelled()
            yield item
            self.progress(done + 1, count, message)

    def log(self, message: str, level: Level = "info") -> None:
        """Keep a line."""
        self.lines.append(LogLine(level, storable(message)[:MAXIMUM_LINE_LENGTH]))

    def artifact(
        self, name: str, source: Source, *, content_type: str | None = None, expires_in: float | None = None
    ) -> Artifact:
        """Keep a file in memory; raises InvalidArtifact as a worker would, but knows no settings and so no limits."""
        about = Description(
            organization_id=self._organization_id,
            job_id=self._job_id,
            attempt=self._attempt,
            name=name,
            content_type=content_type or content_type_of(name, source),
            expires_in=_ARTIFACT_SECONDS if expires_in is None else expires_in,
        )
        self.check_cancelled()
        data = b"".join(chunks_of(source))
        self.check_cancelled()
        self.artifacts[name] = LeftFile(about.content_type, data)
        return about.artifact(new_id(), size=len(data), sha256=hashlib.sha256(data).hexdigest())

    def check_cancelled(self) -> None:
        """Raise JobCancelled once the test has the job cancelled."""
        self._look()
        if self.cancelled:
            raise JobCancelled

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Have `callback` called when the test has the job cancelled."""
        self._callbacks.append(callback)
        self._call_back()

    @property
    def stopping(self) -> bool:
        """Whether the test has the worker stop."""
        return self._stop_after is not None and len(self.reports) >= self._stop_after

    def sleep(self, seconds: float) -> None:
        """Wait for nothing: a frozen clock is moved instead."""
        self.check_cancelled()
        self.slept += seconds
        _let_pass(seconds)
        self.check_cancelled()

    def close(self) -> None:
        """Nothing: a worker would send what waits."""

    def _elapsed(self) -> float:
        # A clock that runs would make every test's estimates different.
        return time.time() - self._began if _clocks else self.slept

    def _look(self) -> None:
        if not self.cancelled and self._is_cancelled(self):
            self.cancelled = True
        self._call_back()

    def _call_back(self) -> None:
        while self.cancelled and self._callbacks:
            self._callbacks.pop(0)()


@dataclass(frozen=True, kw_only=True)
class JobRun:
    """What came of one attempt, as the platform would keep it."""

    job_type: str
    job_id: UUID
    attempt: int
    # `queued`: handed back by a worker that stops.
    status: Status
    # As JSON brings it back: lists for tuples, text for the keys of objects.
    result: Any = None
    # `{code, message, retryable}`
    error: dict[str, Any] | None = None
    # Seconds until the next attempt, without the jitter; None where there is none.
    retry_in: float | None = None
    progress: list[Report] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    logs: list[LogLine] = field(default_factory=list)
    # By name.
    artifacts: dict[str, LeftFile] = field(default_factory=dict)
    slept: float = 0.0
    # What the body raised, for whoever wants to look closer than the platform does.
    exception: BaseException | None = None

    @property
    def last_progress(self) -> Report | None:
        """The last report."""
        return self.progress[-1] if self.progress else None

    def assert_completed(self) -> None:
        """The body returned a result that can be stored."""
        __tracebackhide__ = True
        assert self.status == "completed", f"expected a completed job, but {self.story()}"

    def assert_failed(self, code: str | None = None) -> None:
        """The job failed for good (with this error code)."""
        __tracebackhide__ = True
        assert self.status == "failed", f"expected a failed job, but {self.story()}"
        self._assert_code(code)

    def assert_retrying(self, code: str | None = None) -> None:
        """The attempt failed (with this error code) and another follows."""
        __tracebackhide__ = True
        assert self.status == "retrying", f"expected another attempt, but {self.story()}"
        self._assert_code(code)

    def assert_cancelled(self) -> None:
        """The body noticed that it was cancelled."""
        __tracebackhide__ = True
        assert self.status == "cancelled", f"expected a cancelled job, but {self.story()}"

    def assert_progress_grows(self) -> None:
        """There was progress, it never went backwards, and that of a completed job ended at 100 %."""
        __tracebackhide__ = True
        told = [report["percentage"] for report in self.progress]
        assert told, f"expected progress, but the body told none; {self.story()}"
        for number, (before, after) in enumerate(pairwise(told), 2):
            assert before <= after, f"progress went back from {before} % to {after} % with report {number} of {told}"
        if self.status == "completed":
            assert told[-1] == 100, f"the job completed, but its progress ended at {told[-1]} %: {told}"

    def _assert_code(self, code: str | None) -> None:
        __tracebackhide__ = True
        found = (self.error or {}).get("code")
        assert code in (None, found), f"expected the error code {code!r}, but {self.story()}"

    def story(self) -> str:
        """What happened, in some lines: for the messages of assertions."""
        lines = [f"attempt {self.attempt} of {self.job_type} is {self.status}"]
        if self.error is not None:
            lines.append(f"error: {self.error}")
        if self.retry_in is not None:
            lines.append(f"next attempt in {self.retry_in:g} s")
        if self.progress:
            lines.append(f"last progress: {self.last_progress}")
        lines.extend(f"logged {line.level}: {line.message}" for line in self.logs[-_LINES_SHOWN:])
        if self.exception is not None:
            lines.append("".join(traceback.format_exception(self.exception)).rstrip())
        return "\n  ".join(lines)


def run_job(
    kind: str | Body,
    payload: Mapping[str, Any] | None = None,
    *,
    job_id: UUID | None = None,
    user_id: UUID | None = None,
    organization_id: UUID | None = None,
    attempt: int = 1,
    parents: Mapping[str, Any] | None = None,
    cancel_after: int | None = None,
    cancel_when: Callable[[RecordingContext], bool] | None = None,
    stop_after: int | None = None,
    on_progress: Callable[[Report], object] = lambda _report: None,
) -> JobRun:
    """Run one attempt of a job, named or given as its function, with a payload as the API takes it.

    `parents`: results by ref, or `Parent`s, for `ctx.parents()`. `cancel_after`: so many reports after which the job
    is cancelled, `stop_after`: after which its worker stops; `cancel_when` says so itself. `on_progress` is called
    before each report, to change the world while the job runs. Raises what the API would answer: UnknownJobType, and
    ValidationFailed with messages by field. The type's `check` is not run: it asks whether this owner may submit,
    which is a test of its own.
    """
    found = _type_of(kind)
    loaded = _loaded(found, payload or {})
    context = RecordingContext(
        job_id=job_id or new_id(),
        attempt=attempt,
        is_last_attempt=attempt > found.retry_limit,
        user_id=user_id or new_id(),
        organization_id=organization_id or new_id(),
        parents={name: _parent(value) for name, value in (parents or {}).items()},
        is_cancelled=_cancels(cancel_after, cancel_when),
        stop_after=stop_after,
        on_progress=on_progress,
    )
    ended = _end_of(found, loaded, context)
    return JobRun(
        job_type=found.name,
        job_id=context.job_id,
        attempt=attempt,
        progress=context.reports,
        stages=context.stages,
        logs=context.lines,
        artifacts=context.artifacts,
        slept=context.slept,
        **ended,
    )


def run_until_done(
    kind: str | Body, payload: Mapping[str, Any] | None = None, *, job_id: UUID | None = None, **options: Any
) -> Sequence[JobRun]:
    """Run attempts of one job until it has ended, as the retry policy of its type says; takes what `run_job` takes.

    Nothing waits: inside `frozen_time` the clock is moved by the delay before each attempt.
    """
    same_job = job_id or new_id()
    runs = [run_job(kind, payload, job_id=same_job, **options)]
    while (delay := runs[-1].retry_in) is not None:
        _let_pass(delay)
        runs.append(run_job(kind, payload, job_id=same_job, **{**options, "attempt": runs[-1].attempt + 1}))
    return runs


def _type_of(kind: str | Body) -> JobType:
    if isinstance(kind, str):
        if find_job_type(kind) is None:
            load_job_types()
        return _noted(lambda: get_job_type(kind))
    for known in all_job_types():
        if known.body is kind:
            return known
    raise TypeError(f"{getattr(kind, '__qualname__', kind)} is no job type: decorate it with @job_type")


def _loaded(kind: JobType, payload: Mapping[str, Any]) -> dict[str, Any]:
    # What cannot travel as JSON could not be submitted either.
    travelled = json.loads(json.dumps(payload, allow_nan=False))
    return _noted(lambda: kind.load(travelled))


def _noted(ask: Callable[[], T]) -> T:
    """What `ask` returns; an error of the API shows its messages by field in the test's report."""
    try:
        return ask()
    except CarillonError as error:
        for name, messages in (error.errors or {}).items():
            error.add_note(f"{name}: {' '.join(messages)}")
        raise


def _parent(value: Any) -> Parent:
    if isinstance(value, Parent):
        return value
    return Parent(new_id(), "completed", json.loads(json.dumps(value)), None)


def _cancels(after: int | None, when: Callable[[RecordingContext], bool] | None) -> Callable[[RecordingContext], bool]:
    return lambda context: (after is not None and len(context.reports) >= after) or (when is not None and when(context))


def _end_of(kind: JobType, loaded: dict[str, Any], context: RecordingContext) -> dict[str, Any]:
    """How the attempt ends, as `tasks.base` and `service.jobs.lifecycle` would have it."""
    try:
        result = checked_result(kind.body(context, **loaded))
    except JobCancelled as error:
        return {"status": "cancelled", "exception": error}
    except WorkerStopping as error:
        return {"status": "queued", "exception": error}
    except Exception as error:
        told = conceal(error, kind.permanent) if kind.sensitive else error
        described = describe(told, kind.permanent)
        ended = {"error": described, "exception": error}
        if context.cancelled:
            return {"status": "cancelled", **ended}
        if not described["retryable"] or context.attempt > kind.retry_limit:
            return {"status": "failed", **ended}
        delay = asked_delay(told)
        if delay is None:
            delay = strategy_delay(kind.retry_strategy, kind.retry_delay, context.attempt)
        return {"status": "retrying", "retry_in": delay, **ended}
    return {"status": "completed", "result": json.loads(json.dumps(result))}
