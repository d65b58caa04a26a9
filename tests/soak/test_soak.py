"""Thousands of jobs while everything they need is killed at random: what was accepted is finished once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest

from tests.soak.history import UNSPOKEN
from tests.soak.ledger import Promise
from tests.soak.scale import Scale
from tests.soak.soaking import REST_SECONDS, TELL_SECONDS, Soak

# The first of them has the soak in its time: the start of a platform, the torment, the rest.
_SECONDS = 180 + Scale.from_environment().seconds + 2 * REST_SECONDS + TELL_SECONDS
pytestmark = [pytest.mark.xdist_group("news faults"), pytest.mark.timeout(_SECONDS)]

# Of the jobs so many may fail because their workers were killed too often; the pauses make it next to impossible.
POISON_SHARE = 0.001
SHOWN = 10


def none_of(wrong: Iterable[Any], what: str) -> None:
    """Fail where there is something wrong, showing some of it."""
    __tracebackhide__ = True
    found = list(wrong)
    shown = "\n".join(str(each) for each in found[:SHOWN])
    assert not found, f"{len(found)} {what}:\n{shown}"


def test_every_answer_was_one_that_the_contract_knows(soaked: Soak) -> None:
    none_of(soaked.ledger.surprises, "surprises")


def test_every_kind_of_fault_was_met_and_nothing_else_fell_over(soaked: Soak) -> None:
    assert soaked.tormentor.left_out == set()
    none_of(soaked.tormentor.fallen, "processes ended by themselves")


def test_what_was_accepted_is_there_and_nothing_else(soaked: Soak) -> None:
    promised, kept = set(soaked.ledger.promises), set(soaked.history.jobs)
    none_of(promised - kept, "accepted jobs are not there")
    none_of(kept - promised, "jobs are there that nobody was promised")
    none_of(soaked.ledger.stood_for - kept, "jobs stood for others and are not there")
    assert soaked.submissions == soaked.ledger.submissions


def test_each_job_came_to_the_end_of_its_kind(soaked: Soak) -> None:
    history = soaked.history
    poison = [promise for promise in soaked.promises if soaked.is_poison(promise)]
    assert len(poison) <= max(1, POISON_SHARE * len(soaked.promises)), f"failed as poison: {poison}"
    none_of(
        (
            (promise, history.statuses.get(promise.job_id), history.executions[promise.job_id])
            for promise in soaked.promises
            if promise not in poison
            and (history.statuses.get(promise.job_id), history.code(promise.job_id)) != (promise.status, promise.code)
        ),
        "jobs ended otherwise",
    )
    assert soaked.workflows == soaked.ledger.workflows


def test_each_attempt_is_on_record_once_and_the_last_one_is_the_end(soaked: Soak) -> None:
    history = soaked.history
    none_of(
        (
            (job_id, job["attempt"], history.executions[job_id])
            for job_id, job in history.jobs.items()
            if [row["attempt"] for row in history.executions[job_id]] != list(range(1, job["attempt"] + 1))
        ),
        "jobs with attempts that are not on record, or twice",
    )
    none_of(
        (
            (promise, history.executions[promise.job_id])
            for promise in soaked.promises
            if not soaked.is_poison(promise) and not _ended_once(soaked, promise)
        ),
        "jobs with attempts that their kind does not have",
    )


def _ended_once(soaked: Soak, promise: Promise) -> bool:
    rows = soaked.history.executions[promise.job_id]
    spoken = soaked.history.spoken(promise.job_id)
    if promise.status == "cancelled":
        # A job that was not running when it was cancelled has no attempt that says so.
        return spoken in ([], [(len(rows), "cancelled")])
    if promise.status == "failed":
        return [status for _, status in spoken] == ["failed"] * promise.failures and spoken[-1:] == [
            (row["attempt"], row["status"]) for row in rows[-1:]
        ]
    failed = [(row["attempt"], "failed") for row in rows[: promise.failures] if row["status"] not in UNSPOKEN]
    return spoken == [*failed, (len(rows), "completed")]


def test_owners_were_notified_of_each_end_once(soaked: Soak) -> None:
    history = soaked.history

    def told(promise: Promise) -> dict[str, int]:
        types = ("job_started", "job_completed", "job_failed", "job_cancelled")
        return {type_: history.told(promise.job_id, type_) for type_ in types}

    def to_be_told(promise: Promise) -> dict[str, int]:
        status, executions = history.statuses[promise.job_id], history.executions[promise.job_id]
        rounds = sum(row["status"] == "failed" for row in executions) if promise.again_by_hand else 0
        return {
            "job_started": int(bool(executions)),
            "job_completed": int(status == "completed"),
            "job_failed": rounds + int(status == "failed"),
            "job_cancelled": int(status == "cancelled"),
        }

    none_of(
        (
            (promise, told(promise), history.executions[promise.job_id])
            for promise in soaked.promises
            if told(promise) != to_be_told(promise)
        ),
        "jobs with other notifications than their ends",
    )


def test_each_completion_reached_its_webhook_under_one_id(soaked: Soak) -> None:
    history = soaked.history
    came: defaultdict[str, set[str]] = defaultdict(set)
    for post in soaked.posts:
        came[post.job_id].add(post.webhook_id)
    none_of(
        (
            (promise, history.deliveries[promise.job_id], came[promise.job_id])
            for promise in soaked.promises
            if [(row["status"], {row["id"]}) for row in history.deliveries[promise.job_id]]
            != ([("delivered", came[promise.job_id])] if history.statuses[promise.job_id] == "completed" else [])
        ),
        "jobs whose webhooks are not as their ends",
    )
    bodies = Counter(post.webhook_id for post in {(post.webhook_id, post.body): post for post in soaked.posts}.values())
    none_of((each for each, count in bodies.items() if count > 1), "deliveries came with several bodies")


def test_jobs_started_only_after_those_they_wait_for(soaked: Soak) -> None:
    history = soaked.history
    none_of(
        (
            (promise, history.executions[promise.job_id], history.jobs[parent]["completed_at"])
            for promise in soaked.promises
            for parent in promise.parents
            for first in history.executions[promise.job_id][:1]
            if first["started_at"] < history.jobs[parent]["completed_at"]
        ),
        "jobs started before a parent had ended",
    )


def test_jobs_of_one_key_never_ran_side_by_side(soaked: Soak) -> None:
    history = soaked.history
    groups: defaultdict[str, list[tuple[Any, Any, str, str]]] = defaultdict(list)
    for promise in soaked.promises:
        for row in history.executions[promise.job_id]:
            if promise.group is not None:
                groups[promise.group].append((row["started_at"], row["finished_at"], row["status"], promise.job_id))
    assert groups
    none_of(
        (
            (group, before, after)
            for group, spans in groups.items()
            for before, after in pairwise(sorted(spans))
            if after[0] < before[1]
        ),
        "attempts overlapped another one of their key",
    )


def test_nothing_is_left_behind(soaked: Soak) -> None:
    assert soaked.leftovers == {}


def test_a_socket_heard_each_end_once_or_was_told_that_it_missed_some(soaked: Soak) -> None:
    assert soaked.deaf == []
    for owner, hearing in soaked.hearings.items():
        theirs = [promise for promise in soaked.promises if promise.owner == owner]
        none_of(hearing.faults(), "faults in the order of events")
        none_of((each for each in hearing.ends().items() if each[1] > 1), "ends came twice")
        none_of(hearing.missing(theirs, soaked.history.statuses), "ends were not heard, and nobody said so")
