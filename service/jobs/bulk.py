"""One act on many jobs.

Up to a thousand are dealt with at once, a hundred in a transaction; more by a job of the type `job-actions`, which
walks through them by their ids.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.exc import DBAPIError

from service.accounts.identity import Identity
from service.accounts.models import User
from service.accounts.roles import ADMIN, OPERATOR
from service.audit.actions import record
from service.database import db, transaction
from service.errors import CarillonError, NotAllowed
from service.events import JobRow
from service.jobs.acts import ACTS, Act
from service.jobs.errors import JobNotFound
from service.jobs.filters import JobFilter, matching
from service.jobs.models import Job
from service.jobs.submission import Submission, submit_job

JOB_TYPE = "job-actions"
AT_ONCE = 1_000
CHUNK = 100
MAXIMUM_ERRORS = 100

OWN = "own"
ORGANIZATION = "organization"
SCOPES = (OWN, ORGANIZATION)

UNIQUE_VIOLATION = "23505"
FOREIGN_KEY_VIOLATION = "23503"
DEADLOCK = "40P01"


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Whose jobs: those of an organization, or of one user in it."""

    organization_id: UUID
    user_id: UUID | None

    @classmethod
    def of(cls, identity: Identity) -> Scope:
        """What the user behind a request may act on."""
        return cls(organization_id=identity.organization_id, user_id=None if identity.is_operator else identity.user_id)

    @property
    def word(self) -> str:
        """How a job's payload says it."""
        return ORGANIZATION if self.user_id is None else OWN


def present_scope(user_id: UUID, word: str) -> Scope:
    """What a user may act on by the roles that he has now; raises NotAllowed where that is less than asked."""
    with transaction() as session:
        query = select(User.organization_id, User.roles, User.is_active).where(User.id == user_id)
        user = session.execute(query).one()
    is_operator = bool({ADMIN, OPERATOR} & set(user.roles))
    if not user.is_active or (word == ORGANIZATION and not is_operator):
        raise NotAllowed
    return Scope(organization_id=user.organization_id, user_id=user_id if word == OWN else None)


@dataclass(frozen=True, kw_only=True)
class Order:
    """An act, and the jobs that it is to be done to: those with these ids, or that a filter lets through."""

    act: Act
    wanted: JobFilter
    ids: Sequence[UUID] | None = None
    reason: str | None = None
    # `{filter}` or `{ids}`, in JSON, as they were given.
    said: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def given(
        cls, action: str, arguments: Mapping[str, Any], said: Mapping[str, Any], reason: str | None = None
    ) -> Order:
        """The order of loaded arguments that hold `filter` or `ids`; `said` is the same in JSON."""
        act = ACTS[action]
        conditions = {name: value for name, value in arguments.get("filter", {}).items() if name != "all"}
        return cls(
            act=act,
            wanted=JobFilter.taken_from(conditions, dead=act.to_dead_letters),
            ids=arguments.get("ids"),
            reason=reason,
            said=said,
        )

    def chosen(self, scope: Scope) -> Select[UUID]:
        """Ids of the jobs that it can be done to."""
        query = select(Job.id).where(Job.organization_id == scope.organization_id, self.act.applies)
        if scope.user_id is not None:
            query = query.where(Job.user_id == scope.user_id)
        if self.ids is not None:
            query = query.where(Job.id.in_(self.ids))
        return matching(query, self.wanted)


@dataclass(frozen=True)
class Outcome:
    """To how many jobs it was done, and how many were skipped; `errors` of some of those: `{jobId, code, message}`."""

    count: int
    skipped: int
    errors: Sequence[Mapping[str, str]] = ()

    def json(self) -> dict[str, Any]:
        """As an answer."""
        return {name: value for name, value in asdict(self).items() if name != "errors" or value}


Note = Callable[[Sequence[UUID], Collection[UUID]], None]


def deal(order: Order, ids: Sequence[UUID], note: Note | None = None) -> Collection[UUID]:
    """Do it to these jobs in one transaction; the ids of those it was done to.

    `note(ids, done)` is called in that transaction. Where the database refuses it for the sake of one of them, whose
    unique key was taken at this moment or who is locked in another order, they are dealt with one by one.
    """
    try:
        with transaction():
            done = order.act.do(ids, order.reason)
            if note is not None:
                note(ids, done)
            return done
    except DBAPIError as error:
        code = getattr(error.orig, "pgcode", None)
        refused = code in {UNIQUE_VIOLATION, FOREIGN_KEY_VIOLATION}
        if not (refused or (code == DEADLOCK and len(ids) > 1)):
            raise
    if len(ids) > 1:
        return {job_id for each in ids for job_id in deal(order, [each], note)}
    with transaction():
        if note is not None:
            note(ids, ())
    return ()


def deal_at_once(order: Order, scope: Scope) -> Outcome | None:
    """Do it to all of the jobs; None, and nothing done, where they are too many for that."""
    chosen = list(db.session.scalars(order.chosen(scope).order_by(Job.id).limit(AT_ONCE + 1)))
    if len(chosen) > AT_ONCE:
        return None
    done: set[UUID] = set()
    for start in range(0, len(chosen), CHUNK):
        done.update(deal(order, chosen[start : start + CHUNK]))
    asked = chosen if order.ids is None else list(dict.fromkeys(order.ids))
    skipped = [job_id for job_id in asked if job_id not in done]
    return Outcome(len(done), len(skipped), _errors(order, scope, skipped[:MAXIMUM_ERRORS]))


def _errors(order: Order, scope: Scope, job_ids: Sequence[UUID]) -> Sequence[Mapping[str, str]]:
    columns = (Job.id, Job.organization_id, Job.user_id, order.act.applies.label("applies"))
    rows = {row.id: row for row in db.session.execute(select(*columns).where(Job.id.in_(job_ids)))}
    errors = []
    for job_id in job_ids:
        refusal = _refusal(order.act, scope, rows.get(job_id))
        errors.append({"jobId": str(job_id), "code": refusal.code, "message": refusal().message})
    return errors


def _refusal(act: Act, scope: Scope, row: Any) -> type[CarillonError]:
    if row is None or row.organization_id != scope.organization_id:
        return JobNotFound
    if scope.user_id not in (None, row.user_id):
        return NotAllowed
    return act.hindrance if row.applies else act.refusal


def ask(order: Order, identity: Identity, *, rate: float | None = None) -> Outcome | JobRow:
    """Do it in the name of a user: at once, or by a job where the jobs are many or a `rate` a second is asked for."""
    scope = Scope.of(identity)
    outcome = deal_at_once(order, scope) if rate is None else None
    if outcome is not None:
        record(order.act.audit, "job", details=details(order, outcome))
        return outcome
    payload = {"action": order.act.name, **order.said, "scope": scope.word}
    if order.reason is not None:
        payload["reason"] = order.reason
    if rate is not None:
        payload["ratePerSecond"] = rate
    submission = Submission(type=JOB_TYPE, payload=payload, name=order.act.title)
    return submit_job(submission, organization_id=identity.organization_id, user_id=identity.user_id).row


def details(order: Order, outcome: Outcome) -> dict[str, Any]:
    """What the audit log keeps of an order that was carried out."""
    return {**order.said, "reason": order.reason, "count": outcome.count, "skipped": outcome.skipped}
