"""One job, watched until it ends: over its event stream, or by asking again and again where there is none."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from service.client.errors import Document, NoStream, NotReached, WaitedTooLong
from service.client.sse import Message
from service.client.transport import Pauses, Transport

FINAL = frozenset({"completed", "failed", "cancelled"})
SHORTEST_POLL_SECONDS = 0.2
LONGEST_POLL_SECONDS = 2.0
# After an end: its event may have come without a large result, and never has a sensitive one. After `resumed`: some
# events may be missing.
_TO_BE_READ = frozenset({"job:completed", "job:failed", "job:cancelled", "resumed"})
_WHOLE = frozenset({"job", "job:created", "job:started"})


@dataclass(frozen=True)
class Update:
    """A job when something about it has changed."""

    job: Document

    @property
    def id(self) -> str:
        """The job's id."""
        return str(self.job["id"])

    @property
    def status(self) -> str:
        """One of the contract's statuses."""
        return str(self.job["status"])

    @property
    def progress(self) -> dict[str, Any] | None:
        """How far the job has come: `{current, total, percentage, message?, detail?, etaSeconds?}`."""
        progress: dict[str, Any] | None = self.job["progress"]
        return progress

    @property
    def percentage(self) -> float:
        """0 to 100."""
        return float(self.progress["percentage"]) if self.progress else 0.0

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.status in FINAL


def job_path(job_id: str, below: str = "") -> str:
    """The path of a job, or of something below it."""
    return f"/api/jobs/{quote(str(job_id), safe='')}{below}"


def watch(transport: Transport, job_id: str, ends: float | None = None) -> Iterator[Update]:
    """What changes about a job, its end last; raises WaitedTooLong at the time (time.monotonic) `ends`."""
    shown: Document | None = None
    try:
        for job in _states(transport, job_id, ends):
            if shown is None or _visible(job) != _visible(shown):
                shown = job
                yield Update(job)
            if job["status"] in FINAL:
                return
    except NotReached:
        if _is_time(ends):
            raise
    raise WaitedTooLong


def _visible(job: Document) -> tuple[Any, ...]:
    return job["status"], job["progress"], job["attempt"]


def _states(transport: Transport, job_id: str, ends: float | None) -> Iterator[Document]:
    """The job again and again, as it is now, until the time is up."""
    # First of all: how soon a stream begins is not in the server's hands alone.
    yield _read(transport, job_id, ends)
    pauses = Pauses()
    is_silent = False
    try:
        while _is_time(ends):
            was_silent, is_silent = is_silent, True
            for job in _streamed(transport, job_id, ends):
                is_silent = False
                pauses.reset()
                yield job
            # A stream that ended without a word: something on the way keeps it back. Once that may be chance.
            if was_silent and is_silent:
                break
            if _is_time(ends):
                yield _read(transport, job_id, ends)
                time.sleep(pauses.next())
    except NoStream:
        pass
    yield from _polled(transport, job_id, ends)


def _is_time(ends: float | None) -> bool:
    return ends is None or time.monotonic() < ends


def _streamed(transport: Transport, job_id: str, ends: float | None) -> Iterator[Document]:
    job: Document | None = None
    with transport.stream(job_path(job_id, "/stream"), ends=ends) as stream:
        for message in stream:
            job = _read(transport, job_id, ends) if message.event in _TO_BE_READ else _told(job, message)
            if job is not None:
                yield job


def _told(job: Document | None, message: Message) -> Document | None:
    """The job after an event that does not end it."""
    data = json.loads(message.data)
    data.pop("eventId", None)
    if message.event in _WHOLE:
        return {**(job or {}), **data}
    if job is None:
        return None
    if message.event == "job:progress":
        return {**job, "progress": data["progress"]}
    if message.event == "job:status" and data["status"] not in FINAL:
        return {**job, "status": data["status"], "progress": data["progress"]}
    return job


def _polled(transport: Transport, job_id: str, ends: float | None) -> Iterator[Document]:
    """The job, often while it changes and seldom while it does not."""
    seconds = SHORTEST_POLL_SECONDS
    last: Document | None = None
    while _is_time(ends):
        job = _read(transport, job_id, ends)
        yield job
        seconds = SHORTEST_POLL_SECONDS if job != last else min(seconds * 1.5, LONGEST_POLL_SECONDS)
        last = job
        time.sleep(seconds if ends is None else max(min(seconds, ends - time.monotonic()), 0))


def _read(transport: Transport, job_id: str, ends: float | None) -> Document:
    job: Document = transport.ask("GET", job_path(job_id), ends=ends)
    return job
