"""`job-actions`: cancels, retries or deletes many jobs, replays or discards many dead letters."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from marshmallow import Schema, fields, validate

from service.audit.actions import record
from service.errors import CarillonError, ValidationFailed
from service.jobs.acts import ACTS
from service.jobs.bulk import CHUNK, JOB_TYPE, OWN, SCOPES, Order, details, present_scope
from service.jobs.errors import JobCancelled, WorkerStopping
from service.jobs.registry import job_type
from service.jobs.schemas import (
    MAXIMUM_TIMEOUT_SECONDS,
    DeadLetterConditionsSchema,
    JobChoiceSchema,
    ManySchema,
    RateSchema,
)
from service.jobs.walk import Walk
from tasks.context import JobContext

# A rate is kept to by so many steps a second.
STEPS_A_SECOND = 10


class AnyChoiceSchema(DeadLetterConditionsSchema, JobChoiceSchema):
    """Jobs, or dead letters, for something to be done to."""


class ReachedSchema(Schema):
    """How far the attempts before this one came."""

    after = fields.UUID(required=True)
    count = fields.Integer(required=True)
    skipped = fields.Integer(required=True)


class OrderSchema(ManySchema, RateSchema):
    """What is to be done to which jobs."""

    action = fields.String(required=True, validate=validate.OneOf(ACTS))
    filter = fields.Nested(AnyChoiceSchema)
    reason = fields.String(validate=validate.Length(max=500), load_default=None)
    scope = fields.String(
        validate=validate.OneOf(SCOPES),
        load_default=OWN,
        metadata={"description": "Of your own jobs, or of your organization's, for its operators"},
    )
    reached = fields.Nested(
        ReachedSchema, load_default=None, metadata={"description": "Where to go on; the job itself writes it"}
    )


def _check(user_id: UUID, payload: Mapping[str, Any]) -> None:
    present_scope(user_id, payload["scope"])
    # The audit log counts from there.
    if payload["reached"] is not None:
        raise ValidationFailed(errors={"payload.reached": ["Is written by the job itself."]})


@job_type(
    JOB_TYPE,
    title="Bulk action",
    payload=OrderSchema,
    # What is to be cancelled may stand before it in its queue.
    priority=100,
    timeout=MAXIMUM_TIMEOUT_SECONDS,
    # What the user may not do any more.
    permanent=(CarillonError,),
    check=_check,
)
def job_actions(
    ctx: JobContext,
    *,
    action: str,
    reason: str | None,
    scope: str,
    rate: float | None,
    reached: dict[str, Any] | None,
    **choice: Any,
) -> dict[str, int]:
    """Does something to many jobs that were there before it, by the present rights of its owner."""
    said = OrderSchema(only=("filter", "ids")).dump(choice)
    walk = Walk(
        Order.given(action, choice, said, reason),
        user_id=ctx.user_id,
        scope=scope,
        job_id=ctx.job_id,
        attempt=ctx.attempt,
        reached=reached,
    )
    try:
        _go(ctx, walk, rate)
    except (JobCancelled, CarillonError):
        _record(ctx, walk)
        raise
    _record(ctx, walk)
    return {"count": walk.outcome.count, "skipped": walk.outcome.skipped}


def _go(ctx: JobContext, walk: Walk, rate: float | None) -> None:
    began_at, begun_with = time.monotonic(), walk.outcome.count
    total = walk.dealt_with + walk.count_left()
    while walk.step(_step_size(rate)):
        ctx.progress(walk.dealt_with, total, f"{walk.dealt_with} of {total} jobs")
        if ctx.stopping:
            raise WorkerStopping
        if rate is not None:
            due_at = began_at + (walk.outcome.count - begun_with) / rate
            ctx.sleep(max(0.0, due_at - time.monotonic()))


def _step_size(rate: float | None) -> int:
    return CHUNK if rate is None else min(max(int(rate / STEPS_A_SECOND), 1), CHUNK)


def _record(ctx: JobContext, walk: Walk) -> None:
    record(
        walk.order.act.audit,
        "job",
        ctx.job_id,
        details(walk.order, walk.outcome),
        actor_id=ctx.user_id,
        organization_id=ctx.organization_id,
    )
