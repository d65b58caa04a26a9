"""A world of jobs beside the database, and what has to hold of both after each step."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from hypothesis.stateful import RuleBasedStateMachine

from service.jobs.limits import key_subject, tenant_subject, type_subject, user_subject
from service.jobs.states import MOVES
from service.queues.actions import resume_queue
from service.queues.dispatch import Windows
from tests.conftest import Account
from tests.integration.jobs.machine.model import FINAL, WAITING, Job, World
from tests.integration.jobs.machine.records import QUEUE, Broker, Record, Records, dying_after_commit

T = TypeVar("T")

TYPE = "demo-steps"
# Seconds that no example takes in earnest: what is that near to its time is where it should be.
TOLERANCE = 100


@dataclass(frozen=True)
class Site:
    """Where the machine runs; the users are two of one tenant and one of another."""

    accounts: Sequence[Account]
    records: Records
    broker: Broker
    # Whose inbox is told of jobs, and who has an endpoint for everything.
    inboxes: frozenset[int] = frozenset({0, 2})
    endpoints: frozenset[int] = frozenset({0})

    def clear(self) -> None:
        """No jobs and no messages; the queue runs."""
        resume_queue(QUEUE)
        self.records.clear()
        self.broker.purge()


class WatchedMachine(RuleBasedStateMachine):
    """What SQL, the broker and the model say, compared after each step."""

    site: ClassVar[Site]

    def __init__(self) -> None:
        super().__init__()
        self.site.clear()
        self.world = World()
        # By the model's clock: what is sent must not depend on how fast the machine goes.
        self.windows = Windows(clock=lambda: float(self.world.now))
        self.workflow_ids: list[str] = []
        # Every message that was ever sent, by place and attempt: each may come late, or again.
        self.messages: list[tuple[int, int]] = []
        # How many wait in the broker, and which the workers have taken from there and not looked at yet.
        self.depth = 0
        self.reserved: list[tuple[int, int]] = []
        self.limits: dict[str, int | None] = {}
        # What runs goes on when a limit is set: so many there may be until they have ended.
        self.ceilings: dict[str, int] = {}
        self.is_checked = True
        self._before: dict[str, Record] = {}

    def do(
        self, act: Callable[[], T], dies: bool = False, *refusals: type[Exception]
    ) -> tuple[T | None, type[Exception] | None]:
        """What came of it, or how it was refused; the model hears by `dies` whether anything followed its commit."""
        self.world.dies = dies
        try:
            with dying_after_commit(dies):
                return act(), None
        except refusals as error:
            return None, type(error)

    def adopt_sent(self, jobs: Sequence[Job], *, dies: bool = False) -> None:
        """Learn which of these jobs are sent by now: the order is the dispatcher's business."""
        sent = self.site.records.sent()
        for job in jobs:
            if job.id in sent and not job.sent:
                job.sent = True
                self.depth += not dies

    # Limits

    def limit(self, subject: str) -> int | None:
        """How many jobs of a subject may be sent or running; None: any number."""
        # A type runs one job at a time of each concurrency key where it says nothing else.
        return self.limits.get(subject, 1 if subject.startswith("key:") else None)

    def subjects(self, job: Job) -> list[str]:
        """What may be limited of a job."""
        account = self.site.accounts[job.wanted.owner]
        tenant, key = account.organization_id, job.wanted.concurrency_key
        keys = [] if key is None else [key_subject(tenant, TYPE, key)]
        return [*keys, type_subject(TYPE), user_subject(account.id), tenant_subject(tenant)]

    def in_flight(self, subject: str) -> int:
        """How many jobs of a subject are sent or running."""
        return sum((job.sent or job.status == "active") and subject in self.subjects(job) for job in self.world.jobs)

    def check_nothing_is_forgotten(self) -> None:
        """After the dispatch has come to rest: what is held back is held back by something."""
        for job in self.world.of_status("queued"):
            if not job.sent and self.world.is_open(job):
                limits = {subject: self.limit(subject) for subject in self.subjects(job)}
                is_full = any(
                    limit is not None and self.in_flight(subject) >= limit for subject, limit in limits.items()
                )
                assert is_full, f"job {job.place} is held back by nothing"

    # After each step

    def check(self) -> None:
        """Compare everything there is."""
        for job in self.world.jobs:
            if job.sent and (job.place, job.attempt + 1) not in self.messages:
                self.messages.append((job.place, job.attempt + 1))
        if not self.is_checked:
            return
        records = self.site.records.read()
        assert set(records) == {job.id for job in self.world.jobs}, "jobs have vanished, or come from nowhere"
        for job in self.world.jobs:
            expected, found = self._expected(job), self._found(job, records[job.id])
            wrong = [
                f"{name} is {found[name]}, not {value}" for name, value in expected.items() if found[name] != value
            ]
            assert not wrong, f"job {job.place}: {'; '.join(wrong)}"
            check_sound(job.place, records[job.id])
            if job.id in self._before:
                check_moved(job.place, self._before[job.id], records[job.id])
        self._check_keys(records)
        self._check_limits(records)
        self._check_workflows()
        assert self.site.broker.depth() == self.depth, "not so many messages as were sent"
        self._before = records

    def forget_the_step_before(self) -> None:
        """Have the next check follow more than one step."""
        self._before = {}

    def _expected(self, job: Job) -> dict[str, Any]:
        owner, news = job.wanted.owner, job.news
        inbox = Counter({f"job_{status}": news[status] for status in FINAL if news[status]})
        if news["started"]:
            # Of many attempts only the first is told.
            inbox["job_started"] = 1
        is_told = owner in self.site.inboxes and job.wanted.notify
        posts = Counter({f"job.{kind}": number for kind, number in news.items()})
        return {
            "user_id": str(self.site.accounts[owner].id),
            "status": job.status,
            "attempt": job.attempt,
            "payload": job.payload,
            "priority": job.priority,
            "result": job.result,
            "error": job.error,
            "sent": job.sent,
            "cancel_asked": job.cancel_asked,
            "discarded": job.discarded,
            "unique_held": job.held,
            "holds": job.wanted.unique is not None and self.world.holds(job),
            "executions": job.executions,
            "edges": {self.world.jobs[edge.parent].id: edge.settled for edge in job.edges},
            "has_dependents": job.has_dependents,
            "due": job.due if job.status in {"scheduled", "retrying"} else None,
            "expires": job.expires if job.status in WAITING else None,
            "notifications": inbox if is_told else Counter(),
            "deliveries": posts if owner in self.site.endpoints else Counter(),
        }

    def _found(self, job: Job, record: Record) -> dict[str, Any]:
        return {
            **record.columns,
            "result": None if record["result"] is None else json.loads(record["result"]),
            "due": self._moment(record["due_in"], job.due) if job.status in {"scheduled", "retrying"} else None,
            "expires": self._moment(record["expires_in"], job.expires) if job.status in WAITING else None,
            "executions": record.executions,
            "edges": record.edges,
            "notifications": record.notifications,
            "deliveries": record.deliveries,
        }

    def _moment(self, seconds: float | None, expected: int | None) -> float | None:
        if seconds is None:
            return None
        moment = self.world.now + seconds
        return expected if expected is not None and abs(moment - expected) < TOLERANCE else moment

    def _check_keys(self, records: dict[str, Record]) -> None:
        holders = Counter(record["unique_id"] for record in records.values() if record["holds"])
        assert max(holders.values(), default=1) == 1, "two jobs hold a key"

    def _check_limits(self, records: dict[str, Record]) -> None:
        busy = Counter(
            subject
            for record in records.values()
            if record["sent"] or record["status"] == "active"
            for subject in subjects_of(record)
        )
        for subject in {subject for job in self.world.jobs for subject in self.subjects(job)}:
            limit = self.limit(subject)
            if limit is not None:
                allowed = max(limit, self.ceilings.get(subject, 0))
                assert busy[subject] <= allowed, f"{busy[subject]} instead of {allowed} at once of {subject}"
                self.ceilings[subject] = busy[subject]

    def _check_workflows(self) -> None:
        statuses = self.site.records.workflows() if self.workflow_ids else {}
        for workflow_id, places in zip(self.workflow_ids, self.world.workflows, strict=True):
            if not all(self.world.jobs[place].is_final for place in places):
                assert statuses[workflow_id] == "running", f"the workflow of {places} has ended too early"


def check_sound(place: int, record: Record) -> None:
    """What a row has to be by itself."""
    status, attempts = record["status"], record["attempt"] - (record["status"] == "active")
    assert record["has_ended"] == (status in FINAL), f"job {place}: {status}, and the time of its end"
    assert record["has_lease"] == (status == "active"), f"job {place}: {status}, and its lease"
    assert [attempt for attempt, _ in record.executions] == list(range(1, attempts + 1)), f"job {place}: its attempts"
    assert record["attempt"] <= record["max_attempts"] + record["rescues"], f"job {place}: too many attempts"
    assert not (record["sent"] and record["parked_on"]), f"job {place}: parked and sent"
    if status == "blocked":
        unsettled = sum(not is_settled for is_settled in record.edges.values())
        assert record["waiting_for"] == unsettled > 0, f"job {place}: waits for {record['waiting_for']} of {unsettled}"


def check_moved(place: int, before: Record, after: Record) -> None:
    """What a step may make of a row."""
    old, new = before["status"], after["status"]
    assert new == old or new in MOVES[old], f"job {place}: from {old} to {new}"
    has_moved = (new, after["attempt"]) != (old, before["attempt"])
    assert after["version"] >= before["version"] + has_moved, f"job {place}: its version does not grow"


def subjects_of(record: Record) -> list[str]:
    """What may be limited of a row."""
    tenant, key = record["organization_id"], record["concurrency_key"]
    keys = [] if key is None else [key_subject(tenant, record["type"], key)]
    return [*keys, type_subject(record["type"]), user_subject(record["user_id"]), tenant_subject(tenant)]
