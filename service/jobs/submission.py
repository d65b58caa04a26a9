"""Accepting jobs: one or many, in one transaction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from service.clock import utcnow
from service.crypto import keyed_digest
from service.database import after_commit, transaction
from service.errors import CarillonError, ValidationFailed
from service.events import JobCreated, JobRow
from service.ids import new_id
from service.jobs import idempotency
from service.jobs.dependencies import Dependency, settle_or_leave, write_dependencies
from service.jobs.errors import DuplicateJob
from service.jobs.limits import UNLIMITED
from service.jobs.registry import JobType, get_job_type
from service.jobs.rows import RETURNED
from service.jobs.sealing import seal
from service.jobs.states import BLOCKED, QUEUED, SCHEDULED
from service.jobs.transitions import transition
from service.jobs.uniqueness import DEBOUNCE, Unique, holder_of, unique_id
from service.jobs.waiting import COUNTED_AHEAD
from service.queue import enqueue_jobs, queues
from service.settings import current_settings

MAXIMUM_BATCH = 1_000


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job that somebody asks for; what is None is taken from its type."""

    type: str
    payload: Mapping[str, Any]
    name: str | None = None
    priority: int | None = None
    # Seconds from now, or a moment.
    delay: float | None = None
    run_at: datetime | None = None
    retry_limit: int | None = None
    retry_delay: float | None = None
    retry_strategy: str | None = None
    timeout: int | None = None
    expire_in_seconds: float | None = None
    tags: Sequence[str] = ()
    unique: Unique | None = None
    queue: str | None = None
    concurrency_key: str | None = None
    # Whether the owner's inbox is to hear of it.
    notify: bool = True
    depends_on: Sequence[Dependency] = ()
    workflow_id: UUID | None = None
    # The step of the workflow that it is.
    ref: str | None = None
    schedule_id: UUID | None = None
    # The job that it came from.
    parent_id: UUID | None = None
    # Given where other jobs of the same submission depend on it.
    id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """What came of a submission: a new job, an existing one that it stands for, or a first answer replayed."""

    row: JobRow
    outcome: Literal["new", "existing", "replayed"]


# So many messages of a tenant may wait in a queue before the dispatcher deals them out in turn with other tenants'.
SENT_AT_ONCE = 4

# Sent at once is what nothing holds back: no limit, no pause, no crowd of its tenant's jobs before it. All else the
# dispatcher sends. A key that another job holds makes no row: what then is for `uniqueness` to say.
INSERT = f"""
given AS (
    SELECT *, row_number() OVER (PARTITION BY queue, status ORDER BY number) AS place
    FROM jsonb_to_recordset(%(jobs)s) AS job(number int, id uuid, type text, name text, queue text, status text,
        priority int, payload jsonb, tags jsonb, retry_limit int, retry_strategy text, retry_delay float, timeout int,
        unique_key text, unique_id uuid, unique_states jsonb, unique_until timestamptz, scheduled_at timestamptz,
        expires_at timestamptz, concurrency_key text, waiting_for int, has_dependents boolean, workflow_id uuid,
        ref text, schedule_id uuid, parent_id uuid, notify boolean, sensitive boolean, limited boolean)),
room AS (
    SELECT queue, CASE
        WHEN EXISTS (SELECT FROM queues WHERE name = queue AND (paused_at IS NOT NULL OR drain_before IS NOT NULL))
            -- Not EXISTS, of which PostgreSQL may make a table of all held jobs to look this one up in.
            OR (SELECT true FROM jobs AS held WHERE held.queue = asked.queue
                AND held.organization_id = %(organization_id)s AND held.status = 'queued'
                AND held.dispatched_at IS NULL AND held.parked_on IS NULL LIMIT 1)
            OR EXISTS (SELECT FROM job_limits
                WHERE subject IN ('user:' || %(user_id)s::text, 'tenant:' || %(organization_id)s::text))
        THEN 0
        ELSE {SENT_AT_ONCE} - (SELECT count(*) FROM (SELECT FROM jobs AS sent WHERE sent.queue = asked.queue
            AND sent.organization_id = %(organization_id)s AND sent.status = 'queued'
            AND sent.dispatched_at IS NOT NULL LIMIT {SENT_AT_ONCE}) AS crowd)
        END AS free
    FROM (SELECT DISTINCT queue FROM given) AS asked),
job AS (
    INSERT INTO jobs (id, organization_id, user_id, type, name, queue, status, priority, payload, tags, attempt,
        retry_limit, max_attempts, rescues, retry_strategy, retry_delay, timeout, unique_key, unique_id, unique_held,
        unique_states, unique_until, concurrency_key, waiting_for, has_dependents, workflow_id, ref, schedule_id,
        parent_id, notify, sensitive, created_at, scheduled_at, next_attempt_at, expires_at, dispatched_at, version)
    SELECT id, %(organization_id)s::uuid, %(user_id)s::uuid, type, name, queue, status, priority, payload,
        ARRAY(SELECT jsonb_array_elements_text(tags)), 0, retry_limit, retry_limit + 1, 0, retry_strategy, retry_delay,
        timeout, unique_key, unique_id, unique_id IS NOT NULL,
        CASE WHEN unique_id IS NOT NULL THEN ARRAY(SELECT jsonb_array_elements_text(unique_states)) END, unique_until,
        concurrency_key, waiting_for, has_dependents, workflow_id, ref, schedule_id, parent_id, notify, sensitive,
        %(now)s, scheduled_at, scheduled_at, expires_at,
        CASE WHEN status = 'queued' AND NOT limited AND place <= free
            AND NOT EXISTS (SELECT FROM job_limits WHERE subject = 'type:' || type) THEN %(now)s::timestamptz END, 1
    FROM given JOIN room USING (queue)
    -- Of those of one batch that share a key the first is to have it.
    ORDER BY number
    ON CONFLICT (unique_id) WHERE unique_held DO NOTHING
    RETURNING {RETURNED})
"""

# How many are ahead of a new job in its queue.
AHEAD = f""", (SELECT count(*) FROM (
        SELECT FROM jobs AS other
        WHERE other.queue = job.queue AND other.status = 'queued' AND other.priority >= job.priority
        LIMIT {COUNTED_AHEAD}) AS crowd) AS ahead"""


def submit_job(
    submission: Submission,
    *,
    organization_id: UUID,
    user_id: UUID,
    idempotency_key: str | None = None,
) -> Accepted:
    """Accept a job, or find the one that stands for it.

    Raises UnknownJobType, ValidationFailed, DuplicateJob, and IdempotencyConflict for a key that was used with
    another body.
    """
    return submit_jobs([submission], organization_id=organization_id, user_id=user_id, idempotency_key=idempotency_key)[
        0
    ]


def check_submission(submission: Submission, user_id: UUID) -> None:
    """Raise what submitting this would raise for its type, payload and queue; nothing is written."""
    _record(submission, user_id, utcnow(), (), "")


def submit_jobs(
    submissions: Sequence[Submission],
    *,
    organization_id: UUID,
    user_id: UUID,
    idempotency_key: str | None = None,
) -> list[Accepted]:
    """Accept all or none, in one transaction, in their order; raises as `submit_job`.

    Errors of a batch name the place in it: `jobs.3.payload.steps`.
    """
    now = utcnow()
    parents = {str(each.job_id) for submission in submissions for each in submission.depends_on}
    records = [
        {**_record(submission, user_id, now, parents, _place(number, submissions)), "number": number}
        for number, submission in enumerate(submissions)
    ]
    # Where nothing is looked up between, the insertion is all there is to the transaction.
    is_plain = idempotency_key is None and not parents and all(each.unique is None for each in submissions)
    with transaction(is_single=is_plain):
        if idempotency_key is not None:
            said = json.dumps([_given_fields(each) for each in submissions])
            body_hash = _digest(said, is_secret=any(record["sensitive"] for record in records))
            first = idempotency.claim(user_id, idempotency_key, body_hash, [record["id"] for record in records], now)
            if first is not None:
                return [Accepted(row, "replayed") for row in first]
        scope = {"organization_id": str(organization_id), "user_id": str(user_id), "now": now}
        # The places of a batch are nobody's question.
        extra = AHEAD if len(records) == 1 else ""
        rows = transition(JobCreated, INSERT, {**scope, "jobs": json.dumps(records)}, extra=extra)
        made = {str(row["id"]): row for row in rows}
        accepted = [
            Accepted(made[record["id"]], "new") if record["id"] in made else _stands_for(record, submission, scope)
            for record, submission in zip(records, submissions, strict=True)
        ]
        if parents:
            _write_dependencies(records, submissions, accepted, user_id)
        if idempotency_key is not None:
            idempotency.settle(user_id, idempotency_key, [each.row["id"] for each in accepted])
        # What is held back the dispatcher sends; the news of the job wakes it.
        ready = [each.row for each in accepted if each.outcome == "new" and each.row["dispatched_at"] is not None]
        if ready:
            after_commit(lambda: enqueue_jobs(ready))
    return accepted


def _write_dependencies(
    records: Sequence[Mapping[str, Any]],
    submissions: Sequence[Submission],
    accepted: Sequence[Accepted],
    user_id: UUID,
) -> None:
    for record, each in zip(records, accepted, strict=True):
        if each.outcome != "new" and record["has_dependents"]:
            raise DuplicateJob(job_id=each.row["id"])
    waiting = {
        record["id"]: submission.depends_on
        for record, submission, each in zip(records, submissions, accepted, strict=True)
        if each.outcome == "new" and submission.depends_on
    }
    ended = write_dependencies(waiting, among=[record["id"] for record in records], user_id=user_id)
    if ended:
        after_commit(lambda: settle_or_leave(ended))


def _stands_for(record: dict[str, Any], submission: Submission, scope: Mapping[str, Any]) -> Accepted:
    """The job that holds the key, dealt with as the mode says; a new one where it lets go of the key meanwhile."""
    assert submission.unique is not None
    while True:
        row = holder_of(record, submission.unique, scope["now"])
        if row is not None:
            return Accepted(row, "existing")
        rows = transition(JobCreated, INSERT, {**scope, "jobs": json.dumps([record])})
        if rows:
            return Accepted(rows[0], "new")


def _given_fields(submission: Submission) -> dict[str, str]:
    """What was said of a job, and only that: a version that knows more options must not find another body."""
    said = ((each.name, getattr(submission, each.name), each.default) for each in fields(submission))
    return {name: repr(value) for name, value, default in said if value != default}


def _digest(said: str, *, is_secret: bool) -> bytes:
    # By a plain digest anybody who sees it could try out what the payload was.
    return keyed_digest(said) if is_secret else hashlib.sha256(said.encode()).digest()


def _place(number: int, submissions: Sequence[Submission]) -> str:
    return "" if len(submissions) == 1 else f"jobs.{number}."


def _record(
    submission: Submission, user_id: UUID, now: datetime, parents: Container[str], place: str
) -> dict[str, Any]:
    try:
        kind = get_job_type(submission.type)
        _check_payload(kind, submission.payload, user_id)
        queue = _queue(submission.queue or kind.queue)
    except CarillonError as error:
        if error.errors is not None and place:
            error.errors = {f"{place}{field}": texts for field, texts in error.errors.items()}
        raise
    run_at = submission.run_at
    if submission.delay is not None:
        run_at = now + timedelta(seconds=submission.delay)
    unique = submission.unique
    if unique is not None and unique.mode == DEBOUNCE:
        run_at = now + timedelta(seconds=unique.period or 0)
    waits = run_at is not None and run_at > now
    expires_in = _given(submission.expire_in_seconds, kind.expire_in_seconds)
    begins = run_at if run_at is not None and waits else now
    job_id = str(submission.id or new_id())
    settings = current_settings()
    return {
        "id": job_id,
        "type": kind.name,
        "name": submission.name or kind.title,
        "queue": queue,
        "status": BLOCKED if submission.depends_on else SCHEDULED if waits else QUEUED,
        "priority": _given(submission.priority, kind.priority),
        # Only now that it is checked: from here on nobody reads it but the worker.
        "payload": seal(submission.payload, user_id) if kind.sensitive else submission.payload,
        "sensitive": kind.sensitive,
        "tags": list(submission.tags),
        "retry_limit": _given(submission.retry_limit, kind.retry_limit),
        "retry_strategy": submission.retry_strategy or kind.retry_strategy,
        "retry_delay": _given(submission.retry_delay, kind.retry_delay),
        "timeout": _given(submission.timeout, kind.timeout or settings.job_timeout_minutes * 60),
        "concurrency_key": submission.concurrency_key,
        "waiting_for": len(submission.depends_on),
        "has_dependents": job_id in parents,
        "workflow_id": _text(submission.workflow_id),
        "ref": submission.ref,
        "schedule_id": _text(submission.schedule_id),
        "parent_id": _text(submission.parent_id),
        "notify": submission.notify,
        "limited": submission.concurrency_key is not None
        or kind.limit != UNLIMITED
        or settings.user_concurrency is not None
        or settings.tenant_concurrency is not None,
        "scheduled_at": begins.isoformat() if waits else None,
        "expires_at": None if expires_in is None else (begins + timedelta(seconds=expires_in)).isoformat(),
        **({} if unique is None else unique.columns(unique_id(user_id, kind.name, unique.key), now)),
    }


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)


def _queue(name: str | None) -> str:
    known = queues()
    if name is None:
        return known[0]
    if name not in known:
        raise ValidationFailed(errors={"options.queue": [f"{name} is none of: {', '.join(known)}."]})
    return name


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


def _check_payload(kind: JobType, payload: Mapping[str, Any], user_id: UUID) -> None:
    loaded = kind.load(payload)
    if kind.check is not None:
        kind.check(user_id, loaded)
