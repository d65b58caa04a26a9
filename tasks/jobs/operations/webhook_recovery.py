"""`webhook-recovery`: sends anew what an endpoint missed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from marshmallow import Schema, fields

from service.database import transaction
from service.errors import CarillonError, ValidationFailed
from service.jobs.errors import WorkerStopping
from service.jobs.registry import job_type
from service.jobs.schemas import MAXIMUM_TIMEOUT_SECONDS
from service.webhooks.errors import WebhookNotFound
from service.webhooks.models import Webhook
from service.webhooks.recovery import JOB_TYPE, Missed, Recovery
from service.webhooks.schemas import RecoverySchema
from tasks.context import JobContext

# A rate is kept to by so many steps a second.
STEPS_A_SECOND = 10


class ReachedSchema(Schema):
    """How far the attempts before this one came."""

    after = fields.UUID(required=True)
    count = fields.Integer(required=True)


class RecoveryOrderSchema(RecoverySchema):
    """Which deliveries of which endpoint to send anew, and how fast."""

    webhook_id = fields.UUID(data_key="webhookId", required=True)
    until = fields.AwareDateTime(
        load_default=None,
        metadata={"description": "Events before this time; those after the job's are left out anyway"},
    )
    reached = fields.Nested(
        ReachedSchema, load_default=None, metadata={"description": "Where to go on; the job itself writes it"}
    )


def _check(user_id: UUID, payload: Mapping[str, Any]) -> None:
    _check_owner(payload["webhook_id"], user_id)
    if payload["reached"] is not None:
        raise ValidationFailed(errors={"payload.reached": ["Is written by the job itself."]})


def _check_owner(webhook_id: UUID, user_id: UUID) -> None:
    with transaction() as session:
        webhook = session.get(Webhook, webhook_id)
        if webhook is None or webhook.user_id != user_id:
            raise WebhookNotFound


@job_type(
    JOB_TYPE,
    title="Webhook recovery",
    payload=RecoveryOrderSchema,
    timeout=MAXIMUM_TIMEOUT_SECONDS,
    # An endpoint that is gone or switched off.
    permanent=(CarillonError,),
    check=_check,
)
def webhook_recovery(
    ctx: JobContext,
    *,
    webhook_id: UUID,
    since: datetime,
    until: datetime | None,
    statuses: list[str],
    rate: int,
    reached: dict[str, Any] | None,
) -> dict[str, int]:
    """Sends anew the deliveries of an endpoint that failed or were skipped, oldest first, so many a second."""
    _check_owner(webhook_id, ctx.user_id)
    missed = Missed(webhook_id=webhook_id, since=since, until=until, statuses=statuses)
    recovery = Recovery(missed, job_id=ctx.job_id, attempt=ctx.attempt, reached=reached)
    began_at, begun_with = time.monotonic(), recovery.count
    total = recovery.count + recovery.count_left()
    while recovery.step(max(rate // STEPS_A_SECOND, 1)):
        ctx.progress(recovery.count, total, f"{recovery.count} of {total} deliveries")
        if ctx.stopping:
            raise WorkerStopping
        due_at = began_at + (recovery.count - begun_with) / rate
        ctx.sleep(max(0.0, due_at - time.monotonic()))
    return {"count": recovery.count}
