"""What may happen to jobs, in any order."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from service.clock import utcnow
from service.events import JobRow
from service.jobs import lifecycle
from service.jobs.actions import cancel_job, cancel_jobs, discard_jobs, retry_job, retry_jobs
from service.jobs.dependencies import Dependency, settle_ended
from service.jobs.errors import DuplicateJob, JobNotCancellable, JobNotRetryable
from service.jobs.limits import Limit, key_subject, tenant_subject, type_subject, user_subject
from service.jobs.submission import Submission, submit_jobs
from service.jobs.uniqueness import Unique as UniqueOption
from service.queue import celery_app, queues, task_id_of
from service.queues.actions import drain_queue, pause_queue, remove_limit, resume_queue, set_limit
from service.queues.dispatch import Windows, dispatch
from service.queues.errors import LimitNotFound
from service.workflows.actions import Step, cancel_workflow, create_workflow, finish_ended_workflows, retry_workflow
from service.workflows.errors import WorkflowNotCancellable, WorkflowNotRetryable
from tests.integration.jobs.machine.model import Duplicate, Job, Unique, Wanted
from tests.integration.jobs.machine.records import QUEUE, end_lease, set_due
from tests.integration.jobs.machine.watched import TOLERANCE, TYPE, WatchedMachine

KEYS = ("k", "l")
WORKER = "w"
CROWD = 8
RETRY_DELAY = 1000
# The dispatch comes to rest within so many looks.
LOOKS = 50

owners = st.integers(0, 2)
policies = st.sampled_from(["cancel", "continue", "fail"])
# Now and then a process dies between its commit and what was to follow.
deaths = st.integers(0, 4).map(lambda number: number == 4)
options: dict[str, st.SearchStrategy[Any]] = {
    "delay": st.sampled_from([0, 0, 0, 2000]),
    "at_moment": st.booleans(),
    "priority": st.sampled_from([50, 10, 90]),
    "expire": st.sampled_from([None, None, None, 2500]),
    "retry_limit": st.integers(0, 2),
    "retry_strategy": st.sampled_from(["fixed", "linear", "exponential"]),
    "notify": st.sampled_from([True, True, True, False]),
    "concurrency_key": st.sampled_from([None, None, "c"]),
}
holding = st.builds(
    Unique,
    key=st.sampled_from(KEYS),
    mode=st.sampled_from(["reject", "existing", "replace"]),
    period=st.sampled_from([None, None, 1500]),
    states=st.sampled_from([None, None, ("queued",), ("scheduled", "queued"), ("active",)]),
)
timed = st.builds(
    Unique, key=st.sampled_from(KEYS), mode=st.sampled_from(["debounce", "throttle"]), period=st.just(1500)
)

ENDINGS = ("fail", "complete", "fail for good", "ask for a time", "lose", "hand back")
# What may come before an ending.
CANCEL = "be cancelled"


def _without_double_time(each: Wanted) -> Wanted:
    # The period says when a debounced job runs.
    return replace(each, delay=0) if each.unique is not None and each.unique.mode == "debounce" else each


def wanted(owner: st.SearchStrategy[int] = owners, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Wanted]:
    """Submissions, with these options more or others."""
    return st.builds(Wanted, owner=owner, **{**options, **more}).map(_without_double_time)


def has_room(machine: WatchedMachine) -> bool:
    """Whether few enough jobs are on their way that much happens to each of them."""
    return sum(not job.is_final for job in machine.world.jobs) < CROWD


class JobMachine(WatchedMachine):
    """Jobs of three users on their way, and all that may come across it."""

    # Submission

    @precondition(has_room)
    @rule()
    def submit_something(self) -> None:
        """The plainest job there is."""
        self._submit([Wanted(owner=0)], False)

    @precondition(has_room)
    @rule(each=wanted(unique=st.none() | st.none() | holding | timed), dies=deaths)
    def submit(self, each: Wanted, dies: bool) -> None:
        """Anything, of anybody."""
        self._submit([each], dies)

    @precondition(has_room)
    @rule(each=wanted(owner=st.just(0), unique=holding | timed), dies=deaths)
    def submit_with_a_key(self, each: Wanted, dies: bool) -> None:
        """One of few keys of one user, in whatever mode."""
        self._submit([each], dies)

    @precondition(has_room)
    @precondition(lambda self: self.world.jobs)
    @rule(each=wanted(unique=st.none() | holding), data=st.data(), dies=deaths)
    def submit_dependent(self, each: Wanted, data: st.DataObject, dies: bool) -> None:
        """A job that waits for one or two others, which may have ended."""
        first = self._draw(data, self.world.jobs, "parent")
        theirs = [job.place for job in self.world.jobs if job.wanted.owner == first.wanted.owner]
        beside = data.draw(st.lists(st.sampled_from(theirs), max_size=1), label="beside")
        parents = tuple((place, data.draw(policies, label="policy")) for place in dict.fromkeys([first.place, *beside]))
        self._submit([replace(each, owner=first.wanted.owner, parents=parents)], dies)

    @precondition(has_room)
    @rule(owner=owners, many=st.lists(wanted(unique=st.none() | holding | timed), min_size=2, max_size=4), dies=deaths)
    def submit_batch(self, owner: int, many: list[Wanted], dies: bool) -> None:
        """All of them or none."""
        self._submit([replace(each, owner=owner) for each in many], dies)

    @precondition(has_room)
    @rule(
        owner=owners,
        steps=st.lists(
            st.tuples(wanted(unique=st.none() | holding | timed), st.lists(policies, max_size=2)),
            min_size=2,
            max_size=4,
        ),
        dies=deaths,
    )
    def submit_workflow(self, owner: int, steps: list[tuple[Wanted, list[str]]], dies: bool) -> None:
        """Steps that each wait for some of those right before them."""
        base = len(self.world.jobs)
        many = []
        for number, (each, after) in enumerate(steps):
            parents = tuple((base + number - 1 - back, policy) for back, policy in enumerate(after[:number]))
            many.append(replace(each, owner=owner, parents=parents))
        self._submit(many, dies, is_workflow=True)

    def _submit(self, many: list[Wanted], dies: bool, *, is_workflow: bool = False) -> None:
        kept = copy.deepcopy(self.world)
        numbered = list(enumerate(many, self.world.payload_of_next()))
        send = self._create_workflow if is_workflow else self._submit_jobs
        outcomes, refusal = self.do(lambda: send(numbered, len(kept.jobs)), dies, DuplicateJob)
        try:
            expected = self.world.submit(many, is_workflow=is_workflow)
        except Duplicate:
            self.world = kept
            assert refusal is DuplicateJob, f"accepted: {outcomes}"
        else:
            assert outcomes is not None, "refused"
            for (_, job), (_, job_id) in zip(expected, outcomes, strict=True):
                job.id = job.id or job_id
            assert outcomes == [(outcome, job.id) for outcome, job in expected]
            self.adopt_sent([job for outcome, job in expected if outcome == "new"], dies=dies)
        self.check()

    def _submit_jobs(self, numbered: list[tuple[int, Wanted]], _: int) -> list[tuple[str, str]]:
        account = self.site.accounts[numbered[0][1].owner]
        submissions = [self._submission(each, payload) for payload, each in numbered]
        accepted = submit_jobs(submissions, organization_id=account.organization_id, user_id=account.id)
        return [(each.outcome, str(each.row["id"])) for each in accepted]

    def _create_workflow(self, numbered: list[tuple[int, Wanted]], base: int) -> list[tuple[str, str]]:
        account = self.site.accounts[numbered[0][1].owner]
        steps = [
            Step(
                ref=f"s{place}",
                submission=self._submission(replace(each, parents=()), payload),
                parents={f"s{parent}": policy for parent, policy in each.parents},
            )
            for place, (payload, each) in enumerate(numbered, base)
        ]
        created, _ = create_workflow("Flow", steps, organization_id=account.organization_id, user_id=account.id)
        self.workflow_ids.append(str(created))
        records = self.site.records.read()
        made = {row["ref"]: job_id for job_id, row in records.items() if row["workflow_id"] == str(created)}
        return [("new", made[step.ref]) for step in steps]

    def _submission(self, each: Wanted, payload: int) -> Submission:
        unique = each.unique
        when: dict[str, Any] = {}
        if each.delay:
            run_at = utcnow() + timedelta(seconds=each.delay)
            when = {"run_at": run_at} if each.at_moment else {"delay": float(each.delay)}
        if unique is not None:
            when["unique"] = UniqueOption(key=unique.key, mode=unique.mode, period=unique.period, states=unique.states)
        return Submission(
            type=TYPE,
            payload={"steps": payload},
            priority=each.priority,
            expire_in_seconds=each.expire,
            retry_limit=each.retry_limit,
            retry_delay=float(RETRY_DELAY),
            retry_strategy=each.retry_strategy,
            notify=each.notify,
            concurrency_key=each.concurrency_key,
            depends_on=[
                Dependency(job_id=UUID(self.world.jobs[place].id), on_failure=policy) for place, policy in each.parents
            ],
            **when,
        )

    # What is sent

    @precondition(lambda self: not all(job.sent for job in self.world.of_status("queued")))
    @rule(thoroughly=st.booleans(), dies=deaths)
    def dispatch(self, thoroughly: bool, dies: bool) -> None:
        """One look at the held jobs, or as many as it takes."""
        self._dispatch(thoroughly, dies)

    def _dispatch(self, thoroughly: bool, dies: bool = False) -> None:
        windows = Windows(dict.fromkeys(queues(), 1_000_000)) if thoroughly else self.windows
        for _ in range(LOOKS if thoroughly else 1):
            passed, _ = self.do(lambda: dispatch(windows), dies)
            if passed is None or not passed.moved:
                break
        else:
            assert not thoroughly, "the dispatch does not come to rest"
        self.adopt_sent([job for job in self.world.of_status("queued") if self.world.is_open(job)], dies=dies)
        self.check()
        if thoroughly:
            self.check_nothing_is_forgotten()

    @precondition(lambda self: any(job.sent for job in self.world.jobs))
    @rule(loses=st.booleans(), relays=st.booleans())
    def lose_messages(self, loses: bool, relays: bool) -> None:
        """The broker's, and those of workers that die with them; and have them sent again."""
        if loses:
            self.site.broker.purge()
            self.depth, self.reserved = 0, []
        if relays:
            self._relay()

    def _relay(self) -> None:
        self.site.records.let_messages_be_overdue()
        missing = max(0, sum(job.sent for job in self.world.jobs) - self.depth)
        assert lifecycle.relay() == missing
        self.depth += missing
        self.check()

    # What operators do

    @precondition(lambda self: self.world.of_status("queued"))
    @rule(to=st.sampled_from(["run", "drain", "pause"]), dies=deaths)
    def switch_the_queue(self, to: str, dies: bool) -> None:
        """Pause, drain or resume."""
        {"run": self._resume, "drain": self._drain, "pause": self._pause}[to](dies)
        self.check()

    def _pause(self, dies: bool) -> None:
        self.do(lambda: pause_queue(QUEUE), dies)
        self.world.is_paused, self.world.drains_before = True, None
        for job in self.world.of_status("queued"):
            job.sent = False

    def _drain(self, dies: bool) -> None:
        self.do(lambda: drain_queue(QUEUE), dies)
        self.world.is_paused, self.world.drains_before = False, len(self.world.jobs)

    def _resume(self, dies: bool = False) -> None:
        self.do(lambda: resume_queue(QUEUE), dies)
        self.world.is_paused, self.world.drains_before = False, None

    @precondition(lambda self: self.world.of_status("queued", "active"))
    @rule(number=st.integers(0, 3), concurrency=st.sampled_from([1, 2, None, 0, "as declared"]), dies=deaths)
    def set_a_limit(self, number: int, concurrency: int | str | None, dies: bool) -> None:
        """On a type, a concurrency key, a user or a tenant, or take it away; None lifts what the code says."""
        account = self.site.accounts[0]
        tenant = account.organization_id
        subjects = (
            type_subject(TYPE),
            key_subject(tenant, TYPE, "c"),
            user_subject(account.id),
            tenant_subject(tenant),
        )
        subject = subjects[number]
        if isinstance(concurrency, str):
            self._remove_limit(subject, dies)
        else:
            self.do(lambda: set_limit(subject, Limit(concurrency)), dies)
            self.limits[subject] = concurrency
        self.ceilings[subject] = self.in_flight(subject)
        self.check()

    def _remove_limit(self, subject: str, dies: bool = False) -> None:
        _, refusal = self.do(lambda: remove_limit(subject), dies, LimitNotFound)
        assert (refusal is None) == (subject in self.limits)
        self.limits.pop(subject, None)

    # Attempts

    @precondition(lambda self: self.depth or self.reserved)
    @rule(number=st.integers(0, 9), dies=deaths)
    def receive(self, number: int, dies: bool) -> None:
        """A worker looks at a message from the broker."""
        self._receive(number, dies)

    def _receive(self, number: int, dies: bool = False) -> None:
        places = {job.id: job.place for job in self.world.jobs}
        # In an order of our own: that of messages which were sent again is nobody's promise.
        self.reserved = sorted([*self.reserved, *((places[each], n) for each, n in self.site.broker.receive_all())])
        self.depth = 0
        place, attempt = self.reserved.pop(number % len(self.reserved))
        assert (place, attempt) in self.messages, "a message that nobody sent"
        self._claim(self.world.jobs[place], attempt, dies)

    @precondition(lambda self: self.messages)
    @rule(data=st.data(), dies=deaths)
    def receive_late_or_again(self, data: st.DataObject, dies: bool) -> None:
        """Any message that ever was, be it lost or read."""
        place, attempt = data.draw(st.sampled_from(self.messages), label="message")
        self._claim(self.world.jobs[place], attempt, dies)

    def _claim(self, job: Job, attempt: int, dies: bool = False) -> None:
        may_start = self.world.may_start(job, attempt)
        row, _ = self.do(lambda: lifecycle.start_job(UUID(job.id), attempt, WORKER), dies)
        assert (row is not None) == may_start, (
            f"attempt {attempt} of job {job.place}: {'refused' if may_start else 'begun'}"
        )
        if row is not None:
            assert (row["attempt"], json.loads(row["payload"])) == (attempt, {"steps": job.payload})
            self.world.start(job)
            self._write_late(job)
            assert lifecycle.hand_back_job(UUID(job.id), attempt, "another") is None, "handed back by who has it not"
        self.check()

    def _write_late(self, job: Job) -> None:
        """A worker that was given up comes back, or writes twice: the next check finds that nothing has changed."""
        if job.executions:
            attempt, _ = job.executions[-1]
            for write in LATE_WRITES:
                assert write(UUID(job.id), attempt) is None, f"job {job.place} took a late write of attempt {attempt}"

    @precondition(lambda self: any(job.sent for job in self.world.jobs))
    @rule()
    def run_the_first(self) -> None:
        """The job that was sent first runs well."""
        job = next(job for job in self.world.jobs if job.sent)
        self._claim(job, job.attempt + 1)
        if job.status == "active":
            self._end(job, "complete")

    @precondition(lambda self: any(job.sent for job in self.world.jobs))
    @rule(data=st.data())
    def recall(self, data: st.DataObject) -> None:
        """A pause takes back what was sent; a message of it comes all the same."""
        job = self._draw(data, [job for job in self.world.jobs if job.sent])
        self._pause(dies=False)
        self._resume()
        self._claim(job, job.attempt + 1)

    @precondition(lambda self: any(job.sent and job.expires is not None for job in self.world.jobs))
    @rule(data=st.data())
    def receive_too_late(self, data: st.DataObject) -> None:
        """A job has expired by the time a worker looks at its message, and no tick has noticed."""
        job = self._draw(data, [job for job in self.world.jobs if job.sent and job.expires is not None])
        assert job.expires is not None
        self._pass(max(0, job.expires - self.world.now))
        self._claim(job, job.attempt + 1)

    @precondition(lambda self: self.world.of_status("queued"))
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        """A worker begins a job."""
        self._lead_to_start(self._draw(data, self.world.of_status("queued")), data.draw(deaths, label="dies"))

    def _lead_to_start(self, job: Job, dies: bool = False) -> None:
        if job.status in {"scheduled", "retrying"}:
            assert job.due is not None
            self._pass(max(0, job.due - self.world.now))
            self._release_due()
        if job.status == "queued" and not job.sent:
            self._resume()
            self._dispatch(thoroughly=True)
        if job.sent:
            self._claim(job, job.attempt + 1, dies)

    @precondition(lambda self: self.world.of_status("scheduled", "queued", "active", "retrying"))
    @rule(data=st.data())
    def live(self, data: st.DataObject) -> None:
        """Attempt after attempt of a job ends, as far as it has any; on the way it may be cancelled."""
        job = self._draw(data, self.world.of_status("scheduled", "queued", "active", "retrying"))
        fates = data.draw(st.lists(st.sampled_from([*ENDINGS, CANCEL]), min_size=1, max_size=5), label="fates")
        dies = data.draw(deaths, label="dies")
        for fate in fates:
            self._lead_to_start(job)
            if job.status == "active" and fate == CANCEL:
                self._cancel(job, dies)
            elif job.status == "active":
                self._end(job, fate, dies)

    @precondition(lambda self: self.world.of_status("active"))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """An attempt ends, in whatever way; as a rule it obeys where it is to be cancelled."""
        job = self._draw(data, self.world.of_status("active"))
        ending = data.draw(st.sampled_from(ENDINGS), label="ending")
        dies = data.draw(deaths, label="dies")
        self._end(job, "stop" if job.cancel_asked and ending == "complete" else ending, dies)

    def _end(self, job: Job, ending: str, dies: bool = False) -> None:
        job_id, attempt = UUID(job.id), job.attempt
        if ending in {"fail", "fail for good", "ask for a time"}:
            self._fail(job, ending, dies)
            return
        result = {"job": job.place, "attempt": attempt}
        acts: dict[str, tuple[Callable[[], JobRow | None], Callable[[], None]]] = {
            "complete": (
                lambda: lifecycle.complete_job(job_id, attempt, result),
                lambda: self.world.complete(job, result),
            ),
            "stop": (lambda: lifecycle.stop_job(job_id, attempt), lambda: self.world.stop(job)),
            "lose": (lambda: lifecycle.lose_attempt(job_id, attempt), lambda: self.world.lose(job)),
            "hand back": (lambda: lifecycle.hand_back_job(job_id, attempt, WORKER), lambda: self.world.hand_back(job)),
        }
        act, follow = acts[ending]
        row, _ = self.do(act, dies)
        assert row is not None
        follow()
        self._write_late(job)
        self.check()

    def _fail(self, job: Job, ending: str, dies: bool) -> None:
        asked = 500 if ending == "ask for a time" else None
        delay = self._delay(job) if asked is None else asked
        error = {"code": "boom", "message": "no", "retryable": ending != "fail for good"}
        row, _ = self.do(lambda: lifecycle.fail_job(UUID(job.id), job.attempt, error, retry_in=asked), dies)
        assert row is not None
        self.world.fail(job, "boom", retryable=ending != "fail for good", delay=delay)
        if job.status == row["status"] == "retrying":
            waits = (row["next_attempt_at"] - utcnow()).total_seconds()
            jitter = delay / 10 if asked is None else 0
            assert delay - jitter - TOLERANCE < waits <= delay + jitter, f"{waits} s instead of {delay}"
            set_due(job.id, delay)
        self._write_late(job)
        self.check()

    def _delay(self, job: Job) -> int:
        failures = job.failures + 1
        factors = {"fixed": 1, "linear": failures, "exponential": 1 << (failures - 1)}
        return RETRY_DELAY * factors[job.wanted.retry_strategy]

    @precondition(lambda self: self.world.of_status("active"))
    @rule(data=st.data(), dies=deaths)
    def rescue(self, data: st.DataObject, dies: bool) -> None:
        """The leases of some attempts run out; of some of them the backend has a result. The others are renewed."""
        active = self.world.of_status("active")
        lost = self._draw_some(data, active, 1)
        for job in active:
            row = lifecycle.renew_lease(UUID(job.id), job.attempt)
            assert row is not None
            assert (row["cancel_requested_at"] is not None) == job.cancel_asked
        for place, job in enumerate(lost):
            end_lease(job.id, 1000 - place)
        done = {job.place for job in lost if data.draw(st.booleans(), label="has a result")}
        for place in sorted(done):
            task_id = task_id_of(self.world.jobs[place].id, self.world.jobs[place].attempt)
            celery_app.backend.store_result(task_id, place, "SUCCESS")
        number, _ = self.do(lifecycle.rescue, dies)
        assert number == len(lost)
        for job in lost:
            if job.place in done:
                self.world.complete(job, job.place)
            else:
                self.world.lose(job)
        self.check()

    # Time

    @precondition(lambda self: self.world.times)
    @rule(
        seconds=st.sampled_from([0, 500, 1500, 5000]),
        ticks=st.sampled_from([("release", "expire"), ("release",), ("expire", "release"), ("expire",), ()]),
        dies=deaths,
    )
    def pass_time(self, seconds: int, ticks: tuple[str, ...], dies: bool) -> None:
        """Some time goes by, and ticks that may come at any of them."""
        if seconds:
            self._pass(seconds)
            self.check()
        for tick in ticks:
            {"release": self._release_due, "expire": self._expire_due}[tick](dies)

    def _pass(self, seconds: int) -> None:
        self.site.records.pass_time(seconds)
        self.world.now += seconds

    def _release_due(self, dies: bool = False) -> None:
        self.do(lifecycle.release_due, dies)
        self.world.release_due()
        self.check()

    def _expire_due(self, dies: bool = False) -> None:
        self.do(lifecycle.expire_due, dies)
        self.world.expire_due()
        self.check()

    @precondition(lambda self: any(job.is_final and job.has_dependents for job in self.world.jobs))
    @rule(dies=deaths)
    def settle_ended(self, dies: bool) -> None:
        """The tick that finds what died with a process."""
        self._settle_ended(dies)

    def _settle_ended(self, dies: bool = False) -> None:
        self.do(settle_ended, dies)
        self.world.settle_ended()
        parents = {
            job.place: [self.world.jobs[edge.parent] for edge in job.edges] for job in self.world.of_status("blocked")
        }
        orphans = [place for place, theirs in parents.items() if all(parent.is_final for parent in theirs)]
        assert dies or not orphans, f"jobs {orphans} wait for nobody"
        self.check()

    # What people do

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), dies=deaths)
    def cancel(self, data: st.DataObject, dies: bool) -> None:
        """One job, in whatever status."""
        self._cancel(self._draw(data, self.world.jobs), dies)

    def _cancel(self, job: Job, dies: bool) -> None:
        _, refusal = self.do(lambda: cancel_job(UUID(job.id), "enough"), dies, JobNotCancellable)
        assert (refusal is None) == bool(self.world.cancel([job]))
        self.check()

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), act=st.sampled_from(["cancel", "retry", "replay", "discard"]), dies=deaths)
    def act_on_many(self, data: st.DataObject, act: str, dies: bool) -> None:
        """Some jobs, in whatever status."""
        jobs = self._draw_some(data, self.world.jobs)
        ids = [UUID(job.id) for job in jobs]
        acts: dict[str, tuple[Callable[[], Sequence[JobRow]], Callable[[], list[Job]]]] = {
            "cancel": (lambda: cancel_jobs(ids), lambda: self.world.cancel(jobs)),
            "retry": (lambda: retry_jobs(ids), lambda: self.world.retry(jobs)),
            "replay": (lambda: retry_jobs(ids, dead=True), lambda: self.world.retry(jobs, dead=True)),
            "discard": (lambda: discard_jobs(ids), lambda: self.world.discard(jobs)),
        }
        do, follow = acts[act]
        rows, _ = self.do(do, dies)
        assert rows is not None
        assert {str(row["id"]) for row in rows} == {job.id for job in follow()}
        self.check()

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), dies=deaths)
    def retry(self, data: st.DataObject, dies: bool) -> None:
        """A job that has ended badly, or any where there is none."""
        job = self._draw(data, self.world.of_status("failed", "cancelled") or self.world.jobs)
        is_able = job.status in {"failed", "cancelled"}
        _, refusal = self.do(lambda: retry_job(UUID(job.id)), dies, DuplicateJob, JobNotRetryable)
        anew = self.world.retry([job]) if is_able else []
        assert refusal is (None if anew else DuplicateJob if is_able else JobNotRetryable)
        self.check()

    @precondition(lambda self: self.world.workflows)
    @rule(data=st.data(), dies=deaths)
    def retry_workflow(self, data: st.DataObject, dies: bool) -> None:
        """What failed or was cancelled of it."""
        workflow_id, places = self._draw_workflow(data)
        is_able = any(self.world.jobs[place].status in {"failed", "cancelled"} for place in places)
        _, refusal = self.do(lambda: retry_workflow(workflow_id), dies, DuplicateJob, WorkflowNotRetryable)
        kept = copy.deepcopy(self.world)
        try:
            self.world.retry_workflow(places)
            assert refusal is (None if is_able else WorkflowNotRetryable)
        except Duplicate:
            self.world = kept
            assert refusal is DuplicateJob
        self.check()

    @precondition(lambda self: self.world.workflows)
    @rule(data=st.data(), dies=deaths)
    def cancel_workflow(self, data: st.DataObject, dies: bool) -> None:
        """What has not ended of it."""
        workflow_id, places = self._draw_workflow(data)
        is_able = any(not self.world.jobs[place].is_final for place in places)
        _, refusal = self.do(lambda: cancel_workflow(workflow_id, None), dies, WorkflowNotCancellable)
        assert (refusal is None) == is_able
        self.world.cancel([self.world.jobs[place] for place in places])
        self.check()

    def _draw_workflow(self, data: st.DataObject) -> tuple[UUID, list[int]]:
        number = data.draw(st.integers(0, len(self.workflow_ids) - 1), label="workflow")
        return UUID(self.workflow_ids[number]), self.world.workflows[number]

    def _draw(self, data: st.DataObject, jobs: Sequence[Job], label: str = "job") -> Job:
        return self.world.jobs[data.draw(st.sampled_from([job.place for job in jobs]), label=label)]

    def _draw_some(self, data: st.DataObject, jobs: Sequence[Job], least: int = 0) -> list[Job]:
        places = st.sampled_from([job.place for job in jobs])
        drawn = data.draw(st.lists(places, min_size=least, max_size=4), label="jobs")
        return [self.world.jobs[place] for place in dict.fromkeys(drawn)]

    # The end

    def teardown(self) -> None:
        """Whatever has happened, and where nothing was wrong until now: all jobs come to an end."""
        if sys.exc_info()[0] is None:
            self.is_checked = False
            self._drive_to_the_end()
            self.is_checked = True
            self.forget_the_step_before()
            self.check()
            assert "running" not in self.site.records.workflows().values()
        for subject in self.limits:
            remove_limit(subject)
        self.site.clear()

    def _drive_to_the_end(self) -> None:
        self._resume()
        for subject in [subject for subject, limit in self.limits.items() if limit == 0]:
            self._remove_limit(subject)
        for _ in range(20 + 2 * len(self.world.jobs)):
            if all(job.is_final for job in self.world.jobs):
                break
            self._work_off()
            if not self.world.of_status("queued", "active"):
                self._pass(500)
        self._settle_ended()
        finish_ended_workflows()
        left = {job.place: job.status for job in self.world.jobs if not job.is_final}
        assert not left, f"these jobs never end: {left}"

    def _work_off(self) -> None:
        self._settle_ended()
        self._expire_due()
        self._release_due()
        self._dispatch(thoroughly=True)
        self._relay()
        while self.depth or self.reserved:
            self._receive(0)
        for job in self.world.of_status("active"):
            self._end(job, "complete")


def _complete_again(job_id: UUID, attempt: int) -> Any:
    return lifecycle.complete_job(job_id, attempt, "late", {"current": 1, "total": 1, "percentage": 100})


def _fail_again(job_id: UUID, attempt: int) -> Any:
    return lifecycle.fail_job(job_id, attempt, {"code": "late", "message": "late", "retryable": True})


LATE_WRITES: tuple[Callable[[UUID, int], Any], ...] = (
    _complete_again,
    _fail_again,
    lifecycle.stop_job,
    lifecycle.lose_attempt,
    lambda job_id, attempt: lifecycle.hand_back_job(job_id, attempt, WORKER),
    lifecycle.renew_lease,
    lifecycle.read_attempt,
)
