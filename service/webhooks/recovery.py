"""Sending anew what an endpoint missed: deliveries that failed, and those skipped while it was switched off.

A job of the type `webhook-recovery` walks through them by their ids, oldest first, at a rate. Progress is left out: it
was skipped because there was newer, or the job has ended since.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select, union_all

from service.accounts.identity import Identity
from service.audit.actions import record
from service.clock import isoformat, utcnow
from service.database import after_commit, db, fetch_all, fetch_one, transaction
from service.ids import first_id_at, new_id
from service.jobs.errors import LeaseLost
from service.jobs.submission import Submission, submit_job
from service.jobs.walk import REMEMBER
from service.notifier.channels.webhook import DELIVERY_TASK
from service.queue import wake
from service.webhooks.catalogue import KINDS
from service.webhooks.errors import WebhookIsOff, WebhookNotFound
from service.webhooks.models import Webhook, WebhookDelivery

JOB_TYPE = "webhook-recovery"
PROGRESS = KINDS["progress"].type

# A microsecond apart, for they are sent in the order of their times.
RECOVER = """
UPDATE webhook_deliveries AS delivery
SET status = 'pending', next_attempt_at = %(now)s::timestamptz + place * interval '1 microsecond',
    free_attempts = attempts, in_backlog = %(in_backlog)s
FROM unnest(%(ids)s::text[]::uuid[]) WITH ORDINALITY AS it(id, place)
WHERE delivery.id = it.id AND delivery.status IN ('failed', 'skipped')
RETURNING delivery.id
"""


@dataclass(frozen=True, kw_only=True)
class Missed:
    """What an endpoint missed: deliveries in these statuses of the events from `since` to before `until`."""

    webhook_id: UUID
    since: datetime
    until: datetime | None
    statuses: Sequence[str]

    def count(self, after: UUID | None, before: UUID) -> int:
        """How many there are with ids between these."""
        conditions = self._between(after, before)
        query = select(func.count()).where(*conditions, WebhookDelivery.status.in_(self.statuses))
        with transaction() as session:
            return session.scalar(query) or 0

    def next_ids(self, after: UUID | None, before: UUID, limit: int) -> list[UUID]:
        """Ids of the oldest between these, at most so many."""
        # Each status by itself comes out of its index in this order; both at once would be sorted at every step.
        oldest = union_all(
            *[self._oldest(status, after, before).limit(limit) for status in set(self.statuses)]
        ).subquery()
        with transaction() as session:
            return list(session.scalars(select(oldest.c.id).order_by(oldest.c.id).limit(limit)))

    def _oldest(self, status: str, after: UUID | None, before: UUID) -> Select[UUID]:
        conditions = self._between(after, before)
        query = select(WebhookDelivery.id).where(*conditions, WebhookDelivery.status == status)
        return query.order_by(WebhookDelivery.id)

    def _between(self, after: UUID | None, before: UUID) -> list[ColumnElement[bool]]:
        # An id holds the time of its event.
        end = before if self.until is None else min(before, first_id_at(self.until))
        is_later = WebhookDelivery.id >= first_id_at(self.since) if after is None else WebhookDelivery.id > after
        return [
            WebhookDelivery.webhook_id == self.webhook_id,
            WebhookDelivery.event_type != PROGRESS,
            is_later,
            WebhookDelivery.id < end,
        ]


def submit_recovery(webhook: Webhook, missed: Missed, rate: int, identity: Identity) -> tuple[UUID, int]:
    """Have a job recover what was missed, `rate` a second; its id, and how many it finds. Raises WebhookIsOff."""
    if not webhook.active:
        raise WebhookIsOff
    job_id = new_id()
    payload = {
        "webhookId": str(webhook.id),
        "since": isoformat(missed.since),
        "until": isoformat(missed.until),
        "statuses": list(missed.statuses),
        "ratePerSecond": rate,
    }
    # One after the other, or their rates would add up.
    submission = Submission(type=JOB_TYPE, payload=payload, id=job_id, concurrency_key=str(webhook.id))
    with transaction():
        count = missed.count(None, job_id)
        submit_job(submission, organization_id=identity.organization_id, user_id=identity.user_id)
        record("webhook.recover", "webhook", webhook.id, {**payload, "jobId": str(job_id), "count": count})
    return job_id, count


class Recovery:
    """A job's way through what was missed; an attempt goes on where the one before it stopped."""

    def __init__(self, missed: Missed, *, job_id: UUID, attempt: int, reached: Mapping[str, Any] | None) -> None:
        self._missed = missed
        self._job_id = job_id
        self._attempt = attempt
        self._after: UUID | None = reached["after"] if reached else None
        # Deliveries recovered so far, by the attempts before this one too.
        self.count: int = reached["count"] if reached else 0

    def count_left(self) -> int:
        """How many lie ahead."""
        return self._missed.count(self._after, self._job_id)

    def step(self, size: int) -> bool:
        """Have the next `size` sent; False where there are none. Raises WebhookNotFound, WebhookIsOff and LeaseLost."""
        # What is planned while it goes, and fails again behind it, would make it endless.
        ids = self._missed.next_ids(self._after, self._job_id, size)
        if not ids:
            return False
        with transaction():
            sent_anew = fetch_all(
                RECOVER,
                {
                    "ids": [str(delivery_id) for delivery_id in ids],
                    "now": utcnow(),
                    "in_backlog": self._has_backlog(),
                },
            )
            self._remember(ids[-1], self.count + len(sent_anew))
            after_commit(lambda: wake(DELIVERY_TASK))
        return True

    def _has_backlog(self) -> bool:
        query = select(Webhook.active, Webhook.backlog_at).where(Webhook.id == self._missed.webhook_id)
        endpoint = db.session.execute(query).one_or_none()
        if endpoint is None:
            raise WebhookNotFound
        if not endpoint.active:
            raise WebhookIsOff
        return endpoint.backlog_at is not None

    def _remember(self, after: UUID, count: int) -> None:
        reached = json.dumps({"after": str(after), "count": count})
        parameters = {"id": str(self._job_id), "attempt": self._attempt, "reached": reached}
        if fetch_one(REMEMBER, parameters) is None:
            raise LeaseLost

        def note() -> None:
            self._after, self.count = after, count

        after_commit(note)
