"""What can be done to many jobs at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement

from service.errors import CarillonError
from service.events import JobRow
from service.jobs.actions import cancel_jobs, discard_jobs, retry_jobs
from service.jobs.deletion import delete_jobs, is_deletable
from service.jobs.errors import DuplicateJob, JobNotCancellable, JobNotDeletable, JobNotRetryable, NotDeadLetter
from service.jobs.filters import is_dead
from service.jobs.models import Job
from service.jobs.states import ACTIVE, CANCELLED, FAILED, WAITING

CANCEL = "cancel"
RETRY = "retry"
DELETE = "delete"
# To dead letters only.
REPLAY = "replay"
DISCARD = "discard"


@dataclass(frozen=True, kw_only=True)
class Act:
    """Something that can be done to jobs."""

    name: str
    # Of the job that does it, where they are many.
    title: str
    # The word of the audit log.
    audit: str
    # To which jobs it can be done.
    applies: ColumnElement[bool]
    # Does it to jobs by their ids, for a reason; the ids of those to which it was done.
    do: Callable[[Sequence[UUID], str | None], Collection[UUID]]
    # Why it is not done to a job to which it does not apply, and why it may not be to one to which it does.
    refusal: type[CarillonError]
    hindrance: type[CarillonError]
    to_dead_letters: bool = False


def _ids(rows: Sequence[JobRow]) -> set[UUID]:
    return {UUID(str(row["id"])) for row in rows}


ACTS = {
    act.name: act
    for act in (
        Act(
            name=CANCEL,
            title="Cancel jobs",
            audit="job.cancel_many",
            applies=Job.status.in_([*sorted(WAITING), ACTIVE]),
            do=lambda ids, reason: _ids(cancel_jobs(ids, reason)),
            refusal=JobNotCancellable,
            hindrance=JobNotCancellable,
        ),
        Act(
            name=RETRY,
            title="Retry jobs",
            audit="job.retry_many",
            applies=Job.status.in_([FAILED, CANCELLED]),
            do=lambda ids, _: _ids(retry_jobs(ids)),
            refusal=JobNotRetryable,
            hindrance=DuplicateJob,
        ),
        Act(
            name=DELETE,
            title="Delete jobs",
            audit="job.delete_many",
            applies=is_deletable,
            do=lambda ids, _: delete_jobs(ids),
            refusal=JobNotDeletable,
            hindrance=JobNotDeletable,
        ),
        Act(
            name=REPLAY,
            title="Replay dead letters",
            audit="dead_letter.replay_many",
            applies=is_dead,
            do=lambda ids, _: _ids(retry_jobs(ids, dead=True)),
            refusal=NotDeadLetter,
            hindrance=DuplicateJob,
            to_dead_letters=True,
        ),
        Act(
            name=DISCARD,
            title="Discard dead letters",
            audit="dead_letter.discard_many",
            applies=is_dead,
            do=lambda ids, _: _ids(discard_jobs(ids)),
            refusal=NotDeadLetter,
            hindrance=NotDeadLetter,
            to_dead_letters=True,
        ),
    )
}
