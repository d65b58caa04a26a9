"""Jobs that wait for other jobs: edges between them, and what the end of a parent means to its children.

A parent knows that it has dependents by a flag in its own row, set in the transaction that writes the edges: whoever
ends it sees the flag, and whoever sets it sees the end. What the end means is settled after its commit; a process that
dies in between leaves the flag, and `settle_ended` finds it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from service.clock import utcnow
from service.database import Row, after_commit, fetch_all, transaction
from service.errors import ValidationFailed
from service.events import JobCancelled, JobCompleted, JobEvent, JobFailed, JobPostponed, JobQueued, JobRow, subscribe
from service.jobs.rows import RETURNED
from service.jobs.sealing import unseal
from service.jobs.states import COMPLETED, FINAL
from service.jobs.transitions import transition

log = structlog.get_logger(__name__)

CANCEL = "cancel"
CONTINUE = "continue"
FAIL = "fail"
POLICIES = (CANCEL, CONTINUE, FAIL)
# A tick deals with so many ended parents at a time.
BATCH = 200


@dataclass(frozen=True, kw_only=True)
class Dependency:
    """A job to wait for, and what becomes of the waiting one if that fails or is cancelled."""

    job_id: UUID
    on_failure: str = CANCEL


def connect_dependencies() -> None:
    """Have the ends of jobs settle what depends on them."""
    subscribe(_on_ends, JobCompleted, JobFailed, JobCancelled)


# The ends that settling itself brings about it deals with itself: a chain is as long as its author likes.
_is_settling: ContextVar[bool] = ContextVar("is_settling", default=False)


def _on_ends(events: Sequence[JobEvent]) -> None:
    parents = [str(event.job["id"]) for event in events if event.job["has_dependents"]]
    if parents and not _is_settling.get():
        after_commit(lambda: settle_or_leave(parents))


def settle_or_leave(parents: Sequence[str]) -> None:
    """Settle what depends on ended jobs, or leave it to the tick: that they have ended stands in any case."""
    try:
        settle(parents)
    except DBAPIError as error:
        log.warning("settling_left", jobs=len(parents), error=str(error).splitlines()[0])


def write_dependencies(
    waiting: Mapping[str, Sequence[Dependency]], *, among: Iterable[str], user_id: UUID
) -> Sequence[str]:
    """Write the edges of new jobs, whose parents are the user's; ids of the parents that have ended already.

    `among`: ids of the new jobs themselves, which may be parents too. Raises ValidationFailed for parents that do not
    exist or are somebody else's.
    """
    edges = [
        {"job_id": job_id, "parent_id": str(each.job_id), "on_failure": each.on_failure}
        for job_id, dependencies in waiting.items()
        for each in dependencies
    ]
    wanted = sorted({edge["parent_id"] for edge in edges} - set(among))
    parents = fetch_all(
        """
        UPDATE jobs SET has_dependents = true
        WHERE id IN (
            SELECT id FROM jobs WHERE id = ANY(ARRAY(SELECT value::uuid FROM jsonb_array_elements_text(%(wanted)s)))
                AND user_id = %(user_id)s
            ORDER BY id FOR UPDATE)
        RETURNING id, status
        """,
        {"wanted": json.dumps(wanted), "user_id": str(user_id)},
    )
    if len(parents) < len(wanted):
        missing = sorted(set(wanted) - {str(parent["id"]) for parent in parents})
        raise ValidationFailed(errors={"options.dependsOn": [f"You have no job {each}." for each in missing[:10]]})
    fetch_all(
        """
        INSERT INTO job_dependencies (job_id, parent_id, on_failure, settled)
        SELECT job_id, parent_id, on_failure, false
        FROM jsonb_to_recordset(%(edges)s) AS edge(job_id uuid, parent_id uuid, on_failure text)
        """,
        {"edges": json.dumps(edges)},
    )
    return [str(parent["id"]) for parent in parents if parent["status"] in FINAL]


# Parents and children are locked in the order of their ids, so that two who settle at once do not block each other.
ENDED = """
SELECT id, status FROM jobs
WHERE id = ANY(ARRAY(SELECT value::uuid FROM jsonb_array_elements_text(%(parents)s))) AND has_dependents
    AND status IN ('completed', 'failed', 'cancelled')
ORDER BY id FOR UPDATE
"""

CHILDREN = """
SELECT child.id, child.status, edge.parent_id, edge.on_failure
FROM job_dependencies AS edge JOIN jobs AS child ON child.id = edge.job_id
WHERE edge.parent_id = ANY(ARRAY(SELECT value::uuid FROM jsonb_array_elements_text(%(parents)s))) AND NOT edge.settled
ORDER BY child.id FOR UPDATE
"""

SETTLED = """
WITH parent AS (
    UPDATE jobs SET has_dependents = false
    WHERE id = ANY(ARRAY(SELECT value::uuid FROM jsonb_array_elements_text(%(parents)s))))
UPDATE job_dependencies SET settled = true
WHERE parent_id = ANY(ARRAY(SELECT value::uuid FROM jsonb_array_elements_text(%(parents)s))) AND NOT settled
"""

COUNT_DOWN = """
UPDATE jobs SET waiting_for = waiting_for - ended.count
FROM jsonb_to_recordset(%(ended)s) AS ended(job_id uuid, count int)
WHERE jobs.id = ended.job_id AND jobs.status = 'blocked'
"""

_BLOCKED = "id = ANY(ARRAY(SELECT value::uuid FROM jsonb_array_elements_text(%(children)s))) AND status = 'blocked'"
_LET_GO = "unique_held = unique_held AND ({status} = ANY(unique_states) OR coalesce(unique_until > %(now)s, false))"

UNBLOCK = f"""
job AS (
    UPDATE jobs SET status = 'queued', next_attempt_at = NULL, dispatched_at = NULL, version = version + 1,
        {_LET_GO.format(status="'queued'")}
    WHERE {_BLOCKED} AND waiting_for = 0 AND coalesce(scheduled_at <= %(now)s, true)
    RETURNING {RETURNED})
"""

POSTPONE = f"""
job AS (
    UPDATE jobs SET status = 'scheduled', next_attempt_at = scheduled_at, version = version + 1,
        {_LET_GO.format(status="'scheduled'")}
    WHERE {_BLOCKED} AND waiting_for = 0 AND scheduled_at > %(now)s
    RETURNING {RETURNED})
"""

CANCEL_BLOCKED = f"""
job AS (
    UPDATE jobs SET status = 'cancelled', completed_at = %(now)s, cancel_requested_at = %(now)s,
        cancel_reason = 'A job that it depends on did not complete.', version = version + 1,
        {_LET_GO.format(status="'cancelled'")}
    WHERE {_BLOCKED}
    RETURNING {RETURNED})
"""

FAIL_BLOCKED = f"""
job AS (
    UPDATE jobs SET status = 'failed', completed_at = %(now)s, error = %(error)s, version = version + 1,
        {_LET_GO.format(status="'failed'")}
    WHERE {_BLOCKED}
    RETURNING {RETURNED})
"""

DEPENDENCY_FAILED = {
    "code": "dependency_failed",
    "message": "A job that this one depends on did not complete.",
    "retryable": False,
}


def settle(parents: Sequence[str]) -> None:
    """Deal with what depends on jobs that have ended, and on those that end by this; twice does it once."""
    token = _is_settling.set(True)
    try:
        with transaction():
            while parents:
                parents = _settle_children(parents)
    finally:
        _is_settling.reset(token)


def _settle_children(parents: Sequence[str]) -> list[str]:
    """Settle the children of ended jobs; those that ended by it and have children of their own."""
    now = utcnow()
    ended = {row["id"]: row["status"] for row in fetch_all(ENDED, {"parents": json.dumps(sorted(parents))})}
    if not ended:
        return []
    parameters = {"parents": json.dumps([str(parent) for parent in ended])}
    edges = fetch_all(CHILDREN, parameters)
    fetch_all(SETTLED, parameters)
    against = [edge for edge in edges if ended[edge["parent_id"]] != COMPLETED and edge["on_failure"] != CONTINUE]
    cancelled = [str(edge["id"]) for edge in against if edge["on_failure"] == CANCEL]
    failed = [str(edge["id"]) for edge in against if edge["on_failure"] == FAIL]
    also_ended = [*_end(CANCEL_BLOCKED, JobCancelled, cancelled, now), *_end(FAIL_BLOCKED, JobFailed, failed, now)]
    counts = Counter(str(edge["id"]) for edge in edges)
    fetch_all(COUNT_DOWN, {"ended": json.dumps([{"job_id": each, "count": n} for each, n in counts.items()])})
    ready = {"children": json.dumps(list(counts)), "now": now}
    transition(JobQueued, UNBLOCK, ready)
    transition(JobPostponed, POSTPONE, ready)
    return [str(row["id"]) for row in also_ended if row["has_dependents"]]


def _end(step: str, event_type: type[JobEvent], children: Sequence[str], now: datetime) -> Sequence[JobRow]:
    if not children:
        return []
    parameters: dict[str, Any] = {"children": json.dumps(children), "now": now}
    known = None
    if event_type is JobFailed:
        parameters["error"] = json.dumps(DEPENDENCY_FAILED)
        known = {"error": DEPENDENCY_FAILED}
    return transition(event_type, step, parameters, known=known)


def settle_ended() -> int:
    """Settle what depends on jobs whose end nobody dealt with; how many such jobs there were."""
    with transaction():
        rows = fetch_all(
            """
            SELECT id FROM jobs WHERE has_dependents AND status IN ('completed', 'failed', 'cancelled')
            ORDER BY id LIMIT %(batch)s
            """,
            {"batch": BATCH},
        )
    if rows:
        settle([str(row["id"]) for row in rows])
    return len(rows)


@dataclass(frozen=True)
class Parent:
    """A job that another one depended on, as it ended."""

    id: UUID
    status: str
    result: Any
    error: Mapping[str, Any] | None


def parents_of(job_id: UUID) -> dict[str, Parent]:
    """The jobs that a job depends on, by their ref in the workflow, or by id where they have none.

    The result of a sensitive parent is None unless the job is sensitive too: what it makes of it would stand open.
    """
    with transaction():
        rows = fetch_all(
            """
            SELECT parent.id, parent.ref, parent.status, parent.result::text AS result, parent.error::text AS error,
                parent.user_id, parent.sensitive, child.sensitive AS seals
            FROM job_dependencies AS edge JOIN jobs AS parent ON parent.id = edge.parent_id
                JOIN jobs AS child ON child.id = edge.job_id
            WHERE edge.job_id = %(job_id)s ORDER BY parent.id
            """,
            {"job_id": str(job_id)},
        )
    return {
        row["ref"] or str(row["id"]): Parent(UUID(str(row["id"])), row["status"], _result(row), _parsed(row["error"]))
        for row in rows
    }


def _result(row: Row) -> Any:
    result = _parsed(row["result"])
    if result is None or not row["sensitive"]:
        return result
    return unseal(result, row["user_id"]) if row["seals"] else None


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)
