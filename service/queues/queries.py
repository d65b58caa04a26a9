"""Reads of queues and limits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from service.clock import isoformat, utcnow
from service.database import db
from service.jobs.limits import UNLIMITED, Limit, type_subject
from service.jobs.models import Job
from service.jobs.registry import all_job_types
from service.jobs.representation import rate_json
from service.jobs.states import ACTIVE, QUEUED
from service.jobs.waiting import figures
from service.operations.workers import workers_alive
from service.queue import queues
from service.queues.errors import QueueNotFound
from service.queues.models import JobLimit, Queue


def all_queues() -> list[dict[str, Any]]:
    """Every queue as operators see it."""
    states = {state.name: state for state in db.session.scalars(select(Queue))}
    counts = {
        row.queue: row
        for row in db.session.execute(
            select(
                Job.queue,
                func.count().label("queued"),
                func.count(Job.dispatched_at).label("sent"),
                func.count(Job.parked_on).label("parked"),
                func.min(Job.created_at).label("oldest"),
            )
            .where(Job.status == QUEUED)
            .group_by(Job.queue)
        )
    }
    by_queue = select(Job.queue, func.count()).where(Job.status == ACTIVE).group_by(Job.queue)
    running = {queue: jobs for queue, jobs in db.session.execute(by_queue)}  # noqa: C416 - a result is no mapping
    measured = figures()
    return [
        _queue_json(name, states.get(name), counts.get(name), running.get(name, 0), measured.get(name, {}))
        for name in queues()
    ]


def one_queue(name: str) -> dict[str, Any]:
    """One queue as operators see it; raises QueueNotFound."""
    found = next((queue for queue in all_queues() if queue["name"] == name), None)
    if found is None:
        raise QueueNotFound
    return found


def _queue_json(
    name: str, state: Queue | None, counts: Any, active: int, measured: Mapping[str, Any]
) -> dict[str, Any]:
    oldest = None if counts is None else counts.oldest
    return {
        "name": name,
        "state": _state(name, state),
        "paused": state is not None and state.paused_at is not None,
        "pausedAt": isoformat(state.paused_at) if state is not None else None,
        "drainingSince": isoformat(state.drain_before) if state is not None else None,
        "depth": 0 if counts is None else counts.queued,
        "held": 0 if counts is None else counts.queued - counts.sent,
        "limited": 0 if counts is None else counts.parked,
        "active": active,
        "oldestAgeSeconds": _age(oldest),
        "ratePerMinute": measured.get("ratePerMinute"),
        "meanSeconds": measured.get("meanSeconds"),
        "processes": measured.get("processes"),
        "workers": sorted(workers_alive(name)),
    }


def _age(moment: datetime | None) -> float | None:
    return None if moment is None else round((utcnow() - moment).total_seconds(), 1)


def _state(name: str, state: Queue | None) -> str:
    if state is None or (state.paused_at is None and state.drain_before is None):
        return "running"
    if state.paused_at is not None:
        return "paused"
    left = select(Job.id).where(
        Job.queue == name, Job.status.in_((QUEUED, ACTIVE)), Job.created_at < state.drain_before
    )
    return "drained" if db.session.scalar(left.limit(1)) is None else "draining"


def all_limits() -> list[dict[str, Any]]:
    """The limits that operators set, and those that job types declare."""
    set_limits = {row.subject: row for row in db.session.scalars(select(JobLimit).order_by(JobLimit.subject))}
    declared = {
        subject: kind.limit
        for kind in all_job_types()
        if kind.limit != UNLIMITED and (subject := type_subject(kind.name)) not in set_limits
    }
    return [
        *[limit_json(subject, limit, "code") for subject, limit in declared.items()],
        *[limit_json(row.subject, row.limit, "operator") for row in set_limits.values()],
    ]


def limit_json(subject: str, limit: Limit, source: str) -> dict[str, Any]:
    """A limit as operators see it; `source`: operator or code."""
    return {
        "subject": subject,
        "concurrency": limit.concurrency,
        "rate": rate_json(limit.rate),
        "source": source,
    }
