"""Deletes what is older than it is to be kept, in batches that hold nothing for long.

Each kind takes its turn, a batch at a time, so that a long backlog of one does not keep the others waiting. Rows are
locked with SKIP LOCKED and partitions are taken by one process at a time: two that prune at once do no harm. Files of
artifacts are removed after their rows, which leave word of them (`service.artifacts.models.UnlistedFile`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from psycopg2.errors import LockNotAvailable
from sqlalchemy import ColumnElement, and_, column, delete, exists, func, not_, or_, select, table, text
from sqlalchemy.exc import OperationalError

from service.accounts.actions import delete_expired_tokens
from service.artifacts.actions import delete_expired, remove_unlisted
from service.clock import utcnow
from service.database import db, transaction
from service.ids import first_id_at
from service.jobs.deletion import delete_jobs
from service.jobs.idempotency import forget_old_keys
from service.jobs.models import IdempotencyKey, Job
from service.jobs.states import FINAL
from service.notifications.counts import forget_unread, has_unread
from service.notifications.models import ChannelMessage, NotificationSend
from service.settings import Settings, current_settings
from service.webhooks.models import WebhookAttempt
from service.workflows.models import Workflow

log = structlog.get_logger(__name__)

TICK_SECONDS = 20.0
BATCH = 500
# What waits for a lock on a table keeps everybody behind it waiting too.
LOCK_TIMEOUT = "100ms"
# Any constant serves.
LOCK = 7_203_514
FIRST = UUID(int=0)
_MONTH = re.compile(r"_p_(\d{4})_(\d{2})$")

Counts = dict[str, int]
Batches = Iterator[int]


def prune(seconds: float | None = None) -> Counts:
    """Delete for so many seconds, or until nothing is left that is too old; how many of each kind went."""
    ends = time.monotonic() + seconds if seconds is not None else float("inf")
    settings = current_settings()
    now = utcnow()
    delete_expired_tokens()
    forget_old_keys()
    kinds: dict[str, Callable[[Settings, datetime], Batches]] = {
        "partitions": _partitions,
        "jobs": _jobs,
        "workflows": _workflows,
        "webhook_attempts": _webhook_attempts,
        "messages": _messages,
        "sends": _sends,
        "artifacts": _artifacts,
        "files": _files,
    }
    counts = dict.fromkeys(kinds, 0)
    _take_turns({name: kind(settings, now) for name, kind in kinds.items()}, ends, counts)
    # Those of the rows that went just now.
    _take_turns({"files": _files(settings, now)}, ends, counts)
    log.info("pruned", **counts)
    return counts


def _take_turns(turns: dict[str, Batches], ends: float, counts: Counts) -> None:
    while turns and time.monotonic() < ends:
        for name, batches in list(turns.items()):
            deleted = next(batches, None)
            if deleted is None:
                del turns[name]
            else:
                counts[name] += deleted


def _jobs(settings: Settings, now: datetime) -> Batches:
    """Jobs, with their attempts, logs and artifacts' rows."""
    cutoff = now - timedelta(days=settings.job_retention_days)
    with transaction() as session:
        # A key leads to its jobs for as long as they are there.
        session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < cutoff))
    after = FIRST
    while True:
        with transaction() as session:
            # What else must hold is asked of these few: asked of all, it would have the whole table read.
            old = select(Job.id, Job.workflow_id).where(Job.id > after, _is_over(cutoff, now)).order_by(Job.id)
            locked = session.execute(old.limit(BATCH).with_for_update(skip_locked=True)).all()
            if not locked:
                return
            live = _live_workflows({workflow_id for _, workflow_id in locked if workflow_id is not None}, cutoff)
            deleted = delete_jobs(job_id for job_id, workflow_id in locked if workflow_id not in live)
        after = locked[-1][0]
        yield len(deleted)


def _is_over(cutoff: datetime, now: datetime) -> ColumnElement[bool]:
    """The job ended long ago, and keeps no other from being submitted."""
    holds_key = and_(Job.unique_held, func.coalesce(Job.unique_until > now, False))
    # Made before it ended: a bound that the primary key knows.
    return and_(Job.id < first_id_at(cutoff), Job.status.in_(FINAL), Job.completed_at < cutoff, not_(holds_key))


def _live_workflows(workflow_ids: Collection[UUID], cutoff: datetime) -> Collection[UUID]:
    """Those of which a job has not ended, or has ended of late: their jobs go together."""
    if not workflow_ids:
        return ()
    query = select(Job.workflow_id).where(
        Job.workflow_id.in_(workflow_ids), or_(Job.status.not_in(FINAL), Job.completed_at >= cutoff)
    )
    return {each for each in db.session.scalars(query.distinct()) if each is not None}


def _workflows(settings: Settings, now: datetime) -> Batches:
    """Workflows whose jobs have all gone."""
    oldest = first_id_at(now - timedelta(days=settings.job_retention_days))
    is_empty = ~exists(select(Job.id).where(Job.workflow_id == Workflow.id))
    return _rows(Workflow, Workflow.id < oldest, is_empty)


def _webhook_attempts(settings: Settings, now: datetime) -> Batches:
    """Attempts at deliveries whose partitions have gone."""
    return _rows(WebhookAttempt, WebhookAttempt.id < first_id_at(_kept_from(now, settings.webhook_retention_days)))


def _messages(settings: Settings, now: datetime) -> Batches:
    """Messages by e-mail and the like that were sent or given up."""
    oldest = first_id_at(_kept_from(now, settings.notification_retention_days))
    is_done = ChannelMessage.status.not_in(["pending", "sending", "held"])
    return _rows(ChannelMessage, ChannelMessage.id < oldest, is_done)


def _sends(settings: Settings, now: datetime) -> Batches:
    """What was sent to audiences whose notifications have gone."""
    oldest = _kept_from(now, settings.notification_retention_days)
    was_sent = func.coalesce(NotificationSend.send_at, NotificationSend.created_at) < oldest
    return _rows(NotificationSend, NotificationSend.id < first_id_at(oldest), was_sent)


def _rows(model: Any, *conditions: ColumnElement[bool]) -> Batches:
    old = select(model.id).where(*conditions).order_by(model.id).limit(BATCH).with_for_update(skip_locked=True)
    while True:
        with transaction() as session:
            gone = session.scalars(delete(model).where(model.id.in_(old)).returning(model.id)).all()
        if not gone:
            return
        yield len(gone)


def _artifacts(_settings: Settings, _now: datetime) -> Batches:
    """Artifacts whose time is up."""
    while deleted := delete_expired():
        yield deleted


def _files(_settings: Settings, _now: datetime) -> Batches:
    """Files that belong to no artifact."""
    removed, after = remove_unlisted(FIRST)
    while after is not None:
        yield removed
        removed, after = remove_unlisted(after)


def _partitions(settings: Settings, now: datetime) -> Batches:
    """Whole months of the tables that only grow."""
    for parent, days, pending in (
        ("job_executions", settings.job_retention_days, ()),
        ("notifications", settings.notification_retention_days, ()),
        ("webhook_deliveries", settings.webhook_retention_days, ("pending", "delivering")),
        ("audit_log", settings.audit_retention_days, ()),
    ):
        for partition in _partitions_before(parent, _kept_from(now, days)):
            while parent == "notifications" and forget_unread(partition):
                yield 0
            yield _drop(parent, partition, pending)


def _kept_from(now: datetime, days: int) -> datetime:
    """The beginning of the month in which the oldest moment to be kept lies."""
    oldest = now - timedelta(days=days)
    return datetime(oldest.year, oldest.month, 1, tzinfo=UTC)


def _partitions_before(parent: str, month: datetime) -> list[str]:
    query = text(
        """
        SELECT child.relname FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
        WHERE inhparent = CAST(:parent AS regclass) ORDER BY child.relname
        """
    )
    with transaction() as session:
        names = list(session.scalars(query, {"parent": parent}))
    return [name for name in names if (found := _MONTH.search(name)) and _first_of(found) < month]


def _first_of(found: re.Match[str]) -> datetime:
    return datetime(int(found[1]), int(found[2]), 1, tzinfo=UTC)


class _StillUnread(Exception):
    """Somebody's count would be wrong."""


def _drop(parent: str, partition: str, pending: Sequence[str]) -> int:
    """Drop a partition, unless its table is in use or something in it is still to be done: a later tick tries again."""
    try:
        with transaction() as session:
            if not session.scalar(select(func.pg_try_advisory_xact_lock(LOCK))):
                return 0
            if pending and session.scalar(
                select(exists().select_from(table(partition)).where(column("status").in_(pending)))
            ):
                log.warning("partition_kept", partition=partition)
                return 0
            session.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
            session.execute(text(f"ALTER TABLE {parent} DETACH PARTITION {partition}"))
            # Marked unread once more since, or locked by somebody who was reading it.
            if parent == "notifications" and has_unread(partition):
                raise _StillUnread
            session.execute(text(f"DROP TABLE {partition}"))
    except _StillUnread:
        log.info("partition_busy", partition=partition)
        return 0
    except OperationalError as error:
        if not isinstance(error.orig, LockNotAvailable):
            raise
        log.info("partition_busy", partition=partition)
        return 0
    log.info("partition_dropped", partition=partition)
    return 1
