"""Reads of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from redis.exceptions import RedisError
from sqlalchemy import Select, and_, any_, func, literal, or_, select

from service.accounts.identity import Identity
from service.clock import isoformat
from service.database import db
from service.errors import NotAllowed
from service.events import JobRow
from service.ids import first_id_at
from service.jobs.errors import JobNotFound
from service.jobs.models import Job, JobExecution, JobLog
from service.jobs.representation import job_json, log_json
from service.jobs.states import ACTIVE, QUEUED
from service.jobs.waiting import COUNTED_AHEAD
from service.pagination import LongList, Page
from service.queue import attempt_outcome

log = structlog.get_logger(__name__)

# Everything but the payload, which may be large and is never shown.
_COLUMNS = [column for column in Job.__table__.columns if column.key != "payload"]


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """Which jobs of a list; None and empty mean any."""

    statuses: Sequence[str] = ()
    type: str | None = None
    tag: str | None = None
    queue: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    q: str | None = None


def visible_job(job_id: UUID, identity: Identity) -> JobRow:
    """A job that somebody may see; raises JobNotFound across tenants, NotAllowed within one."""
    found = db.session.execute(select(*_COLUMNS).where(Job.id == job_id)).mappings().one_or_none()
    row = None if found is None else dict(found)
    if row is None or row["organization_id"] != identity.organization_id:
        raise JobNotFound
    if row["user_id"] != identity.user_id and not identity.is_operator:
        raise NotAllowed
    return with_live_progress(row)


def with_place(row: JobRow) -> JobRow:
    """The row with how many are ahead of it, while it is queued."""
    if row["status"] != QUEUED:
        return row
    is_ahead = or_(Job.priority > row["priority"], and_(Job.priority == row["priority"], Job.id < row["id"]))
    crowd = select(Job.id).where(Job.queue == row["queue"], Job.status == QUEUED, is_ahead).limit(COUNTED_AHEAD)
    return {**row, "ahead": db.session.scalar(select(func.count()).select_from(crowd.subquery()))}


def with_live_progress(row: JobRow) -> JobRow:
    """The row with the progress its worker last reported, while it runs."""
    if row["status"] != ACTIVE:
        return row
    try:
        state, progress = attempt_outcome(row["id"], row["attempt"])
    except (RedisError, OSError) as error:
        log.warning("progress_unavailable", error=str(error))
        return row
    return {**row, "progress": progress} if state == "PROGRESS" else row


def list_jobs(identity: Identity, wanted: JobFilter, page: Page) -> dict[str, Any]:
    """A page of the user's jobs, or of the tenant's for an operator, newest first."""
    query = _visible(identity)
    if wanted.statuses:
        query = query.where(Job.status.in_(wanted.statuses))
    if wanted.type:
        query = query.where(Job.type == wanted.type)
    if wanted.tag:
        query = query.where(literal(wanted.tag) == any_(Job.tags))
    if wanted.queue:
        query = query.where(Job.queue == wanted.queue)
    # The id holds the time it was made: a range of ids is a range of time, on the index that sorts the list.
    if wanted.since:
        query = query.where(Job.id >= first_id_at(wanted.since))
    if wanted.until:
        query = query.where(Job.id < first_id_at(wanted.until))
    if wanted.q:
        query = query.where(Job.name.icontains(wanted.q, autoescape=True))
    listed = LongList(query, Job.id)
    return listed.read(page, lambda row: job_json(with_live_progress(row)), _COLUMNS)


def _rows(query: Select[Any]) -> list[JobRow]:
    return [dict(row) for row in db.session.execute(query).mappings()]


def _visible(identity: Identity) -> Select[Any]:
    query = select(Job)
    if identity.is_operator:
        return query.where(Job.organization_id == identity.organization_id)
    return query.where(Job.user_id == identity.user_id)


def executions(job_id: UUID) -> Sequence[JobRow]:
    """The finished attempts of a job, first to last."""
    query = select(*JobExecution.__table__.columns).where(JobExecution.job_id == job_id)
    return _rows(query.order_by(JobExecution.attempt))


def logs(job_id: UUID, page: Page) -> dict[str, Any]:
    """A page of a job's log lines, first to last."""
    query = select(JobLog).where(JobLog.job_id == job_id)
    return LongList(query, JobLog.id, newest_first=False).read(page, log_json, [*JobLog.__table__.columns])


def health() -> dict[str, Any]:
    """`{queueSize, activeJobs, failedJobs, lastProcessedAt}` of the whole installation."""

    def count(*statuses: str) -> Any:
        # One subquery a status: each is answered by the partial index of that status.
        return select(func.count()).where(Job.status.in_(statuses)).scalar_subquery()

    row = db.session.execute(
        select(
            count("queued") + count("scheduled", "retrying"),
            count("active"),
            count("failed"),
            # The newest execution is the last on the primary key.
            select(JobExecution.finished_at).order_by(JobExecution.id.desc()).limit(1).scalar_subquery(),
        )
    ).one()
    return {
        "queueSize": row[0],
        "activeJobs": row[1],
        "failedJobs": row[2],
        "lastProcessedAt": isoformat(row[3]),
    }
