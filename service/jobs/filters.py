"""Which jobs: what lists and acts on many jobs are narrowed to, as SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, and_, func, or_

from service.ids import first_id_at
from service.jobs.models import Job
from service.jobs.states import FAILED, statuses_of

is_dead = and_(Job.status == FAILED, Job.discarded_at.is_(None))

error_code = Job.error["code"].astext
error_message = Job.error["message"].astext

# What differs in the messages of failures that are alike: what is quoted (but for an apostrophe within a word), and
# words with a digit, which are numbers, ids and hashes.
VARIABLE_PARTS = r"""\Y'[^']*'|"[^"]*"|`[^`]*`|[\w-]*[0-9][\w-]*"""
COMPARED_LENGTH = 300
compared_message = func.regexp_replace(func.left(error_message, COMPARED_LENGTH), VARIABLE_PARTS, "*", "g")


def fingerprint_of(job_type: Any, code: Any, message: Any) -> Any:
    """What is the same for jobs of one type that failed alike; `message` without its variable parts."""
    return func.md5(func.concat_ws("\n", job_type, code, message))


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """Which jobs; None and empty mean any."""

    statuses: Sequence[str] = ()
    type: str | None = None
    tag: str | None = None
    queue: str | None = None
    schedule_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    q: str | None = None
    # Dead letters only, in whose error messages `q` is looked for too.
    dead: bool = False
    code: str | None = None
    fingerprint: str | None = None

    @classmethod
    def taken_from(cls, arguments: Mapping[str, Any], *, dead: bool = False) -> JobFilter:
        """The filter that loaded arguments ask for; their `status` is a word."""
        conditions = dict(arguments)
        status = conditions.pop("status", None)
        return cls(statuses=statuses_of(status) if status else (), dead=dead, **conditions)


def matching(query: Select[Any], wanted: JobFilter) -> Select[Any]:
    """A query of jobs, narrowed to those that a filter lets through."""
    if wanted.statuses:
        query = query.where(Job.status.in_(wanted.statuses))
    if wanted.type:
        query = query.where(Job.type == wanted.type)
    if wanted.tag:
        # The second is true of whatever has a tag; the index of tags knows no others.
        query = query.where(Job.tags.contains([wanted.tag]), func.array_length(Job.tags, 1).is_not(None))
    if wanted.queue:
        query = query.where(Job.queue == wanted.queue)
    if wanted.schedule_id:
        query = query.where(Job.schedule_id == wanted.schedule_id)
    # The id holds the time it was made: a range of ids is a range of time, on the index that sorts the list.
    if wanted.since:
        query = query.where(Job.id >= first_id_at(wanted.since))
    if wanted.until:
        query = query.where(Job.id < first_id_at(wanted.until))
    if wanted.q:
        places = [Job.name, error_message] if wanted.dead else [Job.name]
        query = query.where(or_(*[place.icontains(wanted.q, autoescape=True) for place in places]))
    return _of_failures(query, wanted)


def _of_failures(query: Select[Any], wanted: JobFilter) -> Select[Any]:
    if wanted.dead:
        query = query.where(is_dead)
    if wanted.code:
        query = query.where(error_code == wanted.code)
    if wanted.fingerprint:
        query = query.where(fingerprint_of(Job.type, error_code, compared_message) == wanted.fingerprint)
    return query
