"""What a socket client heard, in the order it heard it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import pytest

T = TypeVar("T")

# Names that carry no number: they belong to the socket or the stream, not to the log.
UNNUMBERED = frozenset({"authenticated", "resumed", "auth:expiring", "queue:stats", "job"})
_SHOWN_ON_FAILURE = 30


class Heard(NamedTuple):
    """An event as it reached the client."""

    name: str
    data: Any

    @property
    def job_id(self) -> str | None:
        """The job it is about."""
        if self.name == "notification":
            return self.data["data"].get("jobId")
        return self.data.get("jobId") or (self.data.get("id") if self.name.startswith("job:") else None)


class Journal:
    """Written by a client's thread, read and waited on by the test."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self._heard: list[Heard] = []
        self._changed = threading.Condition()

    def note(self, name: str, data: Any) -> None:
        """Write down an event."""
        with self._changed:
            self._heard.append(Heard(name, data))
            self._changed.notify_all()

    @property
    def heard(self) -> list[Heard]:
        """Everything so far."""
        with self._changed:
            return list(self._heard)

    def until(self, condition: Callable[[list[Heard]], T], what: str, seconds: float = 20.0) -> T:
        """The first true value of `condition` over everything heard; fails when there is none within the time."""
        __tracebackhide__ = True
        ends = time.monotonic() + seconds
        with self._changed:
            while not (value := condition(self._heard)):
                if not self._changed.wait(ends - time.monotonic()):
                    latest = "\n".join(f"  {each.name} {each.data}" for each in self._heard[-_SHOWN_ON_FAILURE:])
                    pytest.fail(f"{self.owner} did not hear within {seconds:g} s: {what}; the last it heard:\n{latest}")
        return value

    def first(self, name: str, job_id: str | None = None, seconds: float = 20.0) -> Any:
        """The data of the first event of this name (about this job); waits for it."""
        __tracebackhide__ = True

        def found(heard: list[Heard]) -> Heard | None:
            return next((each for each in heard if each.name == name and job_id in (None, each.job_id)), None)

        about = f" of job {job_id}" if job_id else ""
        event = self.until(found, f"{name}{about}", seconds)
        assert event
        return event.data

    def all_completed(self, job_ids: Iterable[str], seconds: float = 30.0) -> None:
        """Wait until every job's completion was heard."""
        __tracebackhide__ = True
        missing = set(job_ids)

        def none_missing(heard: list[Heard]) -> bool:
            missing.difference_update(each.job_id for each in heard if each.name == "job:completed")
            return not missing

        self.until(none_missing, "the completion of every job", seconds)

    def about(self, job_id: str, *names: str) -> list[Heard]:
        """The events about a job, of these names where some are given."""
        return [each for each in self.heard if each.job_id == job_id and (not names or each.name in names)]

    def assert_complete(self) -> list[str]:
        """Every event carries its number, none came twice, and the numbers have no hole; returns the numbers."""
        numbered = [each for each in self.heard if each.name not in UNNUMBERED]
        unnumbered = {each.name for each in numbered if "eventId" not in each.data}
        assert not unnumbered, f"{self.owner} heard events without eventId: {unnumbered}"
        messages = Counter((each.data["eventId"], each.name) for each in numbered)
        twice = {message: count for message, count in messages.items() if count > 1}
        assert not twice, f"{self.owner} heard twice: {twice}"
        ids = list(dict.fromkeys(each.data["eventId"] for each in numbered))
        assert len({number.partition("-")[0] for number in ids}) <= 1, f"{self.owner} heard several epochs: {ids}"
        sequence = [int(number.partition("-")[2]) for number in ids]
        expected = list(range(sequence[0], sequence[0] + len(sequence))) if sequence else []
        assert sequence == expected, f"{self.owner} heard with holes or out of order: {sequence}"
        return ids
