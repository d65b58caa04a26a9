"""Reads for the older paths, made of those of the rooms that have the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from service.accounts.errors import UserNotFound
from service.accounts.identity import Identity
from service.accounts.models import User
from service.compat.representation import older_pagination
from service.database import db
from service.errors import NotAllowed
from service.events import JobRow
from service.jobs.filters import JobFilter, matching
from service.jobs.models import Job
from service.jobs.queries import job_columns, own_result, visible, visible_job, with_live_progress
from service.jobs.representation import job_json
from service.pagination import LongList, Page


def shown_job(job_id: UUID, identity: Identity) -> JobRow:
    """A job with the result that this user may read; raises JobNotFound across tenants, NotAllowed within one."""
    row = visible_job(job_id, identity)
    return {**_with_told_result(row), **own_result(row, identity)}


def jobs_of(
    user_id: UUID,
    identity: Identity,
    page: Page,
    represent: Callable[[JobRow], dict[str, Any]],
    statuses: Sequence[str] = (),
) -> dict[str, Any]:
    """`{jobs, pagination}`: a page of one user's jobs in these statuses, newest first; operators may ask for others'.

    Raises UserNotFound across tenants, NotAllowed within one, and SearchTooBroad.
    """
    _check_may_see(user_id, identity)
    query = matching(visible(identity).where(Job.user_id == user_id), JobFilter(statuses=statuses))
    listed = LongList(query, Job.id).read(page, lambda row: dict(with_live_progress(row)), job_columns())
    return {
        "jobs": [represent(_with_told_result(row)) for row in listed["data"]],
        "pagination": older_pagination(listed["pagination"]),
    }


def _with_told_result(row: JobRow) -> JobRow:
    """The row with the result as everybody is told it who sees the job."""
    return {**row, "result": job_json(row)["result"]}


def _check_may_see(user_id: UUID, identity: Identity) -> None:
    if user_id == identity.user_id:
        return
    user = db.session.get(User, user_id)
    if user is None or user.organization_id != identity.organization_id:
        raise UserNotFound
    if not identity.is_operator:
        raise NotAllowed
