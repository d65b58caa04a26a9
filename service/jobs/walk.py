"""A job's way through many other jobs, by their ids: an attempt goes on where the one before it stopped."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select

from service.database import after_commit, fetch_one, transaction
from service.jobs.bulk import Order, Outcome, Scope, deal, present_scope
from service.jobs.errors import LeaseLost
from service.jobs.models import Job

# Kept in the payload, in the transaction that deals with the jobs: whoever has lost the lease deals with none.
REMEMBER = """
UPDATE jobs SET payload = jsonb_set(payload, '{reached}', %(reached)s::jsonb)
WHERE id = %(id)s AND attempt = %(attempt)s AND status = 'active'
RETURNING id
"""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """How far a walk has come: the id of the last job, and what became of those up to it."""

    after: UUID | None = None
    count: int = 0
    skipped: int = 0

    def json(self) -> dict[str, Any]:
        """As the payload has it."""
        return {"after": str(self.after), "count": self.count, "skipped": self.skipped}


class Walk:
    """Carries out an order of a user, step by step; `(job_id, attempt)` is the job that does it."""

    def __init__(
        self, order: Order, *, user_id: UUID, scope: str, job_id: UUID, attempt: int, reached: Mapping[str, Any] | None
    ) -> None:
        self.order = order
        self._user_id = user_id
        self._scope = scope
        self._job_id = job_id
        self._attempt = attempt
        self._reached = Reached(**(reached or {}))

    @property
    def dealt_with(self) -> int:
        """Jobs that it has come past."""
        return self._reached.count + self._reached.skipped

    @property
    def outcome(self) -> Outcome:
        """What has been done so far, by the attempts before this one too."""
        ids = self.order.ids
        count = self._reached.count
        return Outcome(count, self._reached.skipped if ids is None else len(set(ids)) - count)

    def count_left(self) -> int:
        """How many jobs lie ahead. Raises NotAllowed."""
        with transaction() as session:
            return session.scalar(select(func.count()).select_from(self._ahead(self._present_scope()).subquery())) or 0

    def step(self, size: int) -> bool:
        """Deal with the next `size` jobs; False where there are none.

        Raises NotAllowed where the user may not do this any more, and LeaseLost.
        """
        with transaction() as session:
            ids = list(session.scalars(self._ahead(self._present_scope()).order_by(Job.id).limit(size)))
        if ids:
            deal(self.order, ids, self._remember)
        return bool(ids)

    def _present_scope(self) -> Scope:
        return present_scope(self._user_id, self._scope)

    def _ahead(self, scope: Scope) -> Select[UUID]:
        query = self.order.chosen(scope).where(Job.id != self._job_id)
        if self.order.ids is None:
            # Jobs that come while it goes would make it endless.
            query = query.where(Job.id < self._job_id)
        if self._reached.after is not None:
            query = query.where(Job.id > self._reached.after)
        return query

    def _remember(self, ids: Sequence[UUID], done: Collection[UUID]) -> None:
        reached = Reached(
            after=ids[-1],
            count=self._reached.count + len(done),
            skipped=self._reached.skipped + len(ids) - len(done),
        )
        parameters = {"id": str(self._job_id), "attempt": self._attempt, "reached": json.dumps(reached.json())}
        if fetch_one(REMEMBER, parameters) is None:
            raise LeaseLost

        def note() -> None:
            self._reached = reached

        after_commit(note)
