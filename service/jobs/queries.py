"""Reads of jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import structlog
from redis.exceptions import RedisError
from sqlalchemy import Select, and_, func, or_, select

from service.accounts.identity import Identity
from service.clock import isoformat
from service.database import db
from service.errors import NotAllowed
from service.events import JobRow
from service.jobs.errors import JobNotFound
from service.jobs.filters import JobFilter, matching
from service.jobs.models import Job, JobExecution, JobLog
from service.jobs.representation import job_json, log_json
from service.jobs.sealing import Unreadable, unseal, unseal_text
from service.jobs.states import ACTIVE, QUEUED
from service.jobs.waiting import COUNTED_AHEAD
from service.pagination import LongList, Page
from service.queue import attempt_outcome

log = structlog.get_logger(__name__)

# Everything but the payload, which may be large and is never shown.
_COLUMNS = [column for column in Job.__table__.columns if column.key != "payload"]


def job_columns() -> Sequence[Any]:
    """The columns that a job's JSON is made of."""
    return _COLUMNS


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
    listed = LongList(matching(visible(identity), wanted), Job.id)
    return listed.read(page, lambda row: job_json(with_live_progress(row)), _COLUMNS)


def _rows(query: Select[Any]) -> list[JobRow]:
    return [dict(row) for row in db.session.execute(query).mappings()]


def visible(identity: Identity) -> Select[Any]:
    """The user's jobs, or the tenant's for an operator."""
    query = select(Job)
    if identity.is_operator:
        return query.where(Job.organization_id == identity.organization_id)
    return query.where(Job.user_id == identity.user_id)


def executions(job_id: UUID) -> Sequence[JobRow]:
    """The finished attempts of a job, first to last."""
    query = select(*JobExecution.__table__.columns).where(JobExecution.job_id == job_id)
    return _rows(query.order_by(JobExecution.attempt))


def logs(job: JobRow, identity: Identity, page: Page) -> dict[str, Any]:
    """A page of a job's log lines, first to last; of a sensitive job only its owner reads what they say."""

    def unsealed(line: JobRow) -> dict[str, Any]:
        return log_json({**line, "message": _opened(unseal_text, line["message"], job, identity)})

    listed = LongList(select(JobLog).where(JobLog.job_id == job["id"]), JobLog.id, newest_first=False)
    return listed.read(page, unsealed if job["sensitive"] else log_json, [*JobLog.__table__.columns])


def own_result(job: JobRow, identity: Identity) -> dict[str, Any]:
    """`{result}` of a sensitive job that has one, opened for its owner; empty of any other job."""
    if not job["sensitive"] or job["result"] is None:
        return {}
    return {"result": _opened(unseal, job["result"], job, identity)}


def _opened(unsealed: Callable[[Any, UUID], Any], sealed: Any, job: JobRow, identity: Identity) -> Any:
    """What is sealed in a sensitive job, for its owner; None for operators, and where its key is gone."""
    if job["user_id"] != identity.user_id:
        return None
    try:
        return unsealed(sealed, identity.user_id)
    except Unreadable:
        log.warning("sealed_unreadable", job_id=str(job["id"]))
        return None


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
