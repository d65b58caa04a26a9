"""The life of jobs as it is promised: a model in plain Python that knows no database.

Times are whole seconds of the model's own clock. What the dispatcher chooses to send is its own business: `sent` is
told to the model. Everything else the model says beforehand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

FINAL = ("completed", "failed", "cancelled")
WAITING = ("scheduled", "blocked", "queued", "retrying")
UNFINISHED = (*WAITING, "active")

# A job whose workers died so often is queued again; the next time it fails.
RESCUES = 3


@dataclass(frozen=True, repr=False)
class Terse:
    """Shows of itself what is not usual."""

    def __repr__(self) -> str:
        given = {
            each.name: getattr(self, each.name) for each in fields(self) if each.default != getattr(self, each.name)
        }
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in given.items())})"


@dataclass(frozen=True, kw_only=True, repr=False)
class Unique(Terse):
    """How a submission is unique; `period` in seconds."""

    key: str
    mode: str
    period: int | None = None
    states: tuple[str, ...] | None = None

    @property
    def held_in(self) -> tuple[str, ...]:
        """The statuses in which a job holds the key."""
        if self.mode in {"debounce", "throttle"}:
            return ("scheduled",) if self.mode == "debounce" else ()
        return UNFINISHED if self.states is None else self.states


@dataclass(frozen=True, kw_only=True, repr=False)
class Wanted(Terse):
    """A submission: by which of the users, with which options, after which jobs by their places in the world."""

    owner: int
    delay: int = 0
    # Whether the time is given as a moment rather than a delay.
    at_moment: bool = False
    priority: int = 50
    expire: int | None = None
    retry_limit: int = 0
    retry_strategy: str = "fixed"
    notify: bool = True
    concurrency_key: str | None = None
    unique: Unique | None = None
    # What becomes of it if they fail, by place.
    parents: tuple[tuple[int, str], ...] = ()


@dataclass
class Edge:
    """One job that another waits for."""

    parent: int
    policy: str
    settled: bool = False


@dataclass(eq=False)
class Job:
    """A job as it has to be."""

    place: int
    wanted: Wanted
    # The first of them is the submission's, later ones of those it stands for.
    payload: int
    status: str
    priority: int
    created: int
    id: str = ""
    attempt: int = 0
    # Of this round: a retry by hand begins a new one.
    failures: int = 0
    losses: int = 0
    # When a scheduled or retrying job is queued.
    due: int | None = None
    scheduled_at: int | None = None
    expires: int | None = None
    sent: bool = False
    cancel_asked: bool = False
    discarded: bool = False
    result: Any = None
    error: str | None = None
    held: bool = False
    held_until: int | None = None
    edges: list[Edge] = field(default_factory=list)
    has_dependents: bool = False
    workflow: int | None = None
    executions: list[tuple[int, str]] = field(default_factory=list)
    # What was to be told, by the kind of event.
    news: Counter[str] = field(default_factory=Counter)

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.status in FINAL

    @property
    def has_begun(self) -> bool:
        """Whether a worker has had it, or never will."""
        return self.attempt > 0 or self.status not in {"scheduled", "blocked", "queued"}

    @property
    def waits_for(self) -> int:
        """The jobs that it has to wait for, and whose end has not been dealt with."""
        return sum(not edge.settled for edge in self.edges)


class World:
    """All jobs of an example, and what surrounds them."""

    def __init__(self) -> None:
        self.now = 0
        self.jobs: list[Job] = []
        self.workflows: list[list[int]] = []
        self.is_paused = False
        # While the queue drains: how many jobs there were when it began to.
        self.drains_before: int | None = None
        # Whether the process dies right after the commit of what comes next.
        self.dies = False
        self._submitted = 0

    def of_status(self, *statuses: str) -> list[Job]:
        """The jobs that are in one of these statuses."""
        return [job for job in self.jobs if job.status in statuses]

    @property
    def times(self) -> list[int]:
        """When something changes by itself: jobs are due, or expire, or let go of their keys."""
        return [
            moment
            for job in self.jobs
            for moment in (job.due, None if job.is_final else job.expires, job.held_until if job.held else None)
            if moment is not None
        ]

    # Submission

    def submit(self, wanted: Sequence[Wanted], *, is_workflow: bool = False) -> list[tuple[str, Job]]:
        """What comes of each: `new` or `existing`, and the job; raises Duplicate, and then it is no use any more."""
        accepted = [self._accept(each, is_step=is_workflow) for each in wanted]
        ended: list[Job] = []
        for outcome, job in accepted:
            for parent, policy in job.wanted.parents if outcome == "new" else ():
                job.edges.append(Edge(parent, policy))
                self.jobs[parent].has_dependents = True
                if self.jobs[parent].is_final:
                    ended.append(self.jobs[parent])
        if is_workflow:
            for _, job in accepted:
                job.workflow = len(self.workflows)
            self.workflows.append([job.place for _, job in accepted])
        self._follow_up(ended)
        return accepted

    def _accept(self, wanted: Wanted, *, is_step: bool) -> tuple[str, Job]:
        self._submitted += 1
        unique = wanted.unique
        if unique is not None and not self._let_go(wanted):
            holder = next((job for job in self._sharing(wanted) if job.held), None)
            if holder is not None:
                if is_step:
                    # A job of its workflow's own, or none.
                    raise Duplicate
                return "existing", self._stand_for(holder, wanted, unique)
        return "new", self._add(wanted)

    def _add(self, wanted: Wanted) -> Job:
        unique = wanted.unique
        waits = wanted.delay
        if unique is not None and unique.mode == "debounce":
            waits = unique.period or 0
        job = Job(
            place=len(self.jobs),
            wanted=wanted,
            payload=self._submitted,
            status="blocked" if wanted.parents else "scheduled" if waits else "queued",
            priority=wanted.priority,
            created=self.now,
            due=self.now + waits if waits else None,
            scheduled_at=self.now + waits if waits else None,
            expires=None if wanted.expire is None else self.now + waits + wanted.expire,
            held=unique is not None,
        )
        if unique is not None and unique.mode != "debounce" and unique.period is not None:
            job.held_until = self.now + unique.period
        job.news["created"] += 1
        self.jobs.append(job)
        return job

    def _stand_for(self, holder: Job, wanted: Wanted, unique: Unique) -> Job:
        if unique.mode == "reject" or (unique.mode == "replace" and holder.has_begun):
            raise Duplicate
        if unique.mode == "debounce" and holder.status not in {"scheduled", "blocked"}:
            raise Duplicate
        if unique.mode in {"replace", "debounce"}:
            holder.payload = self._submitted
            holder.priority = wanted.priority
        if unique.mode == "debounce":
            holder.due = holder.scheduled_at = self.now + (unique.period or 0)
            # The newest says how long it may wait, counted from when it may run.
            holder.expires = None if wanted.expire is None else holder.scheduled_at + wanted.expire
        return holder

    def payload_of_next(self) -> int:
        """The payload that the next submission has."""
        return self._submitted + 1

    # Unique keys

    def _sharing(self, wanted: Wanted) -> list[Job]:
        assert wanted.unique is not None
        asked = (wanted.owner, wanted.unique.key)
        return [
            job
            for job in self.jobs
            if job.wanted.unique is not None and (job.wanted.owner, job.wanted.unique.key) == asked
        ]

    def holds(self, job: Job) -> bool:
        """Whether a job has its key to itself at this moment."""
        return job.held and not self._is_stale(job)

    def _is_stale(self, job: Job) -> bool:
        assert job.wanted.unique is not None
        is_over = job.held_until is None or job.held_until <= self.now
        return job.status not in job.wanted.unique.held_in and is_over

    def _let_go(self, wanted: Wanted) -> bool:
        stale = [job for job in self._sharing(wanted) if job.held and self._is_stale(job)]
        for job in stale:
            job.held = False
        return bool(stale)

    def is_taken(self, job: Job) -> bool:
        """Whether another job holds the key of this one."""
        return job.wanted.unique is not None and any(
            other.held for other in self._sharing(job.wanted) if other is not job
        )

    # Steps of the way

    def _move(self, job: Job, status: str) -> None:
        job.status = status
        job.sent = False
        if job.held and self._is_stale(job):
            job.held = False
        if status in FINAL:
            job.news[status] += 1

    def may_start(self, job: Job, attempt: int) -> bool:
        """Whether a message of an attempt leads to its start."""
        return (
            job.status == "queued"
            and job.sent
            and attempt == job.attempt + 1
            and (job.expires is None or job.expires > self.now)
            and self.is_open(job)
        )

    def is_open(self, job: Job) -> bool:
        """Whether the queue starts this job at present."""
        return not self.is_paused and (self.drains_before is None or job.place < self.drains_before)

    def start(self, job: Job) -> None:
        """A worker begins the next attempt."""
        self._move(job, "active")
        job.attempt += 1
        job.due = None
        job.news["started"] += 1

    def complete(self, job: Job, result: Any) -> None:
        """The attempt ends with a result."""
        job.result = result
        job.error = None
        self._end(job, "completed", "completed")

    def fail(self, job: Job, code: str, *, retryable: bool, delay: int) -> None:
        """The attempt ends with an error; another follows after the delay where there are any left."""
        job.error = code
        if job.cancel_asked:
            self._end(job, "cancelled", "failed")
            return
        job.failures += 1
        if not retryable or job.failures > job.wanted.retry_limit:
            self._end(job, "failed", "failed")
            return
        self._end(job, "retrying", "failed")
        job.due = self.now + delay

    def stop(self, job: Job) -> None:
        """The attempt obeys a cancel."""
        job.error = None
        self._end(job, "cancelled", "cancelled")

    def lose(self, job: Job) -> None:
        """The worker of the attempt died."""
        job.error = None
        if job.cancel_asked:
            self._end(job, "cancelled", "lost")
        elif job.losses >= RESCUES:
            job.error = "worker_lost"
            self._end(job, "failed", "lost")
        else:
            job.losses += 1
            self._end(job, "queued", "lost")

    def hand_back(self, job: Job) -> None:
        """The worker of the attempt stops and gives the job back."""
        job.error = None
        self._end(job, "cancelled" if job.cancel_asked else "queued", "handed_back")

    def _end(self, job: Job, status: str, how: str) -> None:
        job.executions.append((job.attempt, how))
        self._move(job, status)
        if job.is_final:
            self._follow_up([job])

    def release_due(self) -> None:
        """The time of scheduled and retrying jobs comes."""
        for job in self.of_status("scheduled", "retrying"):
            assert job.due is not None
            if job.due <= self.now:
                self._move(job, "queued")
                job.due = None

    def expire_due(self) -> None:
        """Jobs have waited for longer than they may."""
        expired = [job for job in self.of_status(*WAITING) if job.expires is not None and job.expires <= self.now]
        for job in expired:
            job.error = "expired"
            self._move(job, "failed")
        self._follow_up(expired)

    # What people do

    def cancel(self, jobs: Iterable[Job]) -> list[Job]:
        """Those that had not ended."""
        found = [job for job in jobs if not job.is_final]
        waiting = [job for job in found if job.status != "active"]
        for job in found:
            job.cancel_asked = True
        for job in waiting:
            self._move(job, "cancelled")
        self._follow_up(waiting)
        return found

    def retry(self, jobs: Sequence[Job], *, dead: bool = False) -> list[Job]:
        """Those that run anew: failed and cancelled ones whose key is free, of each key the newest."""
        for job in jobs:
            if job.wanted.unique is not None:
                self._let_go(job.wanted)
        statuses = ("failed",) if dead else ("failed", "cancelled")
        able = [job for job in jobs if job.status in statuses and not (dead and job.discarded)]
        free = [job for job in able if not self.is_taken(job)]
        newest = {self._key(job): job for job in sorted(free, key=lambda job: job.place)}
        for job in newest.values():
            self._begin_anew(job, "queued")
        return list(newest.values())

    def _key(self, job: Job) -> object:
        unique = job.wanted.unique
        return job.place if unique is None else (job.wanted.owner, unique.key)

    def retry_workflow(self, places: Sequence[int]) -> None:
        """What failed or was cancelled runs anew, in its order; raises Duplicate, and then it is no use any more."""
        anew = [self.jobs[place] for place in places if self.jobs[place].status in {"failed", "cancelled"}]
        for job in anew:
            if job.wanted.unique is not None:
                self._let_go(job.wanted)
            for edge in job.edges:
                parent = self.jobs[edge.parent]
                # One that was retried by itself is waited for like one that is retried now.
                if edge.parent in places and parent.status != "completed":
                    edge.settled = False
                    parent.has_dependents = True
        for job in anew:
            if self.is_taken(job):
                raise Duplicate
            self._begin_anew(job, "blocked" if job.waits_for else "queued")

    def _begin_anew(self, job: Job, status: str) -> None:
        job.failures = job.losses = 0
        job.cancel_asked = job.discarded = False
        job.error = job.expires = None
        job.held = job.wanted.unique is not None
        # It may be held without the present status being one in which it is: until somebody asks for the key.
        job.status = status
        job.sent = False

    def discard(self, jobs: Iterable[Job]) -> list[Job]:
        """Dead letters that are none any more."""
        dead = [job for job in jobs if job.status == "failed" and not job.discarded]
        for job in dead:
            job.discarded = True
        return dead

    # Dependencies

    def _follow_up(self, ended: Sequence[Job]) -> None:
        if not self.dies:
            self.settle(ended)

    def settle_ended(self) -> None:
        """Whose end nobody dealt with."""
        self.settle(self.of_status(*FINAL))

    def settle(self, ended: Sequence[Job]) -> None:
        """What the ends of these jobs mean to those that wait for them, and to those that wait for those."""
        while ended:
            ended = self._settle_children(ended)

    def _settle_children(self, ended: Sequence[Job]) -> list[Job]:
        parents = {job.place: job for job in ended if job.has_dependents and job.is_final}
        unsettled = [
            (child, edge) for child in self.jobs for edge in child.edges if edge.parent in parents and not edge.settled
        ]
        for parent in parents.values():
            parent.has_dependents = False
        for _, edge in unsettled:
            edge.settled = True
        against = [(child, edge.policy) for child, edge in unsettled if self.jobs[edge.parent].status != "completed"]
        also_ended = [
            *self._end_blocked([child for child, policy in against if policy == "cancel"], "cancelled", None),
            *self._end_blocked([child for child, policy in against if policy == "fail"], "failed", "dependency_failed"),
        ]
        for child, _ in unsettled:
            if child.status == "blocked" and not child.waits_for:
                is_early = child.scheduled_at is not None and child.scheduled_at > self.now
                child.due = child.scheduled_at if is_early else None
                self._move(child, "scheduled" if is_early else "queued")
        return also_ended

    def _end_blocked(self, children: Sequence[Job], status: str, error: str | None) -> list[Job]:
        ended = [child for child in dict.fromkeys(children) if child.status == "blocked"]
        for child in ended:
            child.error = error
            child.cancel_asked = status == "cancelled"
            self._move(child, status)
        return ended


class Duplicate(Exception):
    """Another job holds the key."""
