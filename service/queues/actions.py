"""What operators do to queues and limits."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert

from service.clock import utcnow
from service.database import after_commit, fetch_all, transaction
from service.jobs.limits import Limit
from service.queue import DISPATCH_TASK, queues, wake
from service.queues.dispatch import lock_dispatch
from service.queues.errors import LimitNotFound, QueueNotFound
from service.queues.models import JobLimit, Queue


def pause_queue(name: str) -> None:
    """Start no more jobs of a queue; what runs goes on. Raises QueueNotFound."""
    with transaction():
        lock_dispatch()
        _write_state(name, paused_at=utcnow(), drain_before=None)
        # Workers refuse their messages from now on; they are sent anew when the queue goes on.
        fetch_all(
            """
            UPDATE jobs SET dispatched_at = NULL
            WHERE id IN (
                SELECT id FROM jobs WHERE queue = %(queue)s AND status = 'queued' AND dispatched_at IS NOT NULL
                ORDER BY id FOR UPDATE)
            """,
            {"queue": name},
        )


def drain_queue(name: str) -> None:
    """Start only the jobs that a queue has already; newer ones wait until it is resumed. Raises QueueNotFound."""
    with transaction():
        lock_dispatch()
        _write_state(name, paused_at=None, drain_before=utcnow())
        _wake_dispatch()


def resume_queue(name: str) -> None:
    """Let a queue go on. Raises QueueNotFound."""
    with transaction():
        lock_dispatch()
        _write_state(name, paused_at=None, drain_before=None)
        _wake_dispatch()


def _write_state(name: str, **state: Any) -> None:
    if name not in queues():
        raise QueueNotFound
    with transaction() as session:
        values = {**state, "updated_at": utcnow()}
        statement = insert(Queue).values(name=name, **values)
        session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


def set_limit(subject: str, limit: Limit) -> None:
    """Limit a subject, in place of what code and settings say of it; what runs goes on."""
    rate = limit.rate
    values = {
        "concurrency": limit.concurrency,
        "rate": None if rate is None else rate.limit,
        "period": None if rate is None else rate.period,
        "kind": None if rate is None else rate.kind,
        "updated_at": utcnow(),
    }
    with transaction() as session:
        statement = insert(JobLimit).values(subject=subject, **values)
        session.execute(statement.on_conflict_do_update(index_elements=["subject"], set_=values))
        _wake_dispatch()


def remove_limit(subject: str) -> None:
    """Let code and settings say again what a subject may do. Raises LimitNotFound."""
    with transaction() as session:
        if not session.scalar(delete(JobLimit).where(JobLimit.subject == subject).returning(JobLimit.subject)):
            raise LimitNotFound
        _wake_dispatch()


def _wake_dispatch() -> None:
    after_commit(lambda: wake(DISPATCH_TASK))
