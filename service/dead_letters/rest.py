"""`/api/dead-letters`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import marshmallow as ma
from flask import Response
from flask_smorest import Blueprint

from service.accounts.identity import current_identity
from service.audit.actions import record
from service.database import transaction
from service.dead_letters import queries
from service.dead_letters.actions import discard, replay, replay_edited
from service.dead_letters.schemas import (
    DeadLetterChoiceSchema,
    DeadLetterFilterSchema,
    DeadLetterGroupsSchema,
    DeadLetterPageSchema,
    DeadLetterSchema,
    ReplayManySchema,
    ReplaySchema,
)
from service.jobs.acts import DISCARD, REPLAY
from service.jobs.bulk import Order, ask
from service.jobs.filters import JobFilter
from service.jobs.queries import visible_job
from service.jobs.representation import job_json
from service.jobs.rest import bulk_answer
from service.jobs.schemas import BulkAnswerSchema, JobSchema
from service.pagination import Page
from service.web import json_answer

blueprint = Blueprint(
    "dead-letters", __name__, url_prefix="/api/dead-letters", description="Look after jobs that failed for good"
)

BY_A_JOB = "They are many, or a rate was asked for: this job does it"


@blueprint.route("", methods=["GET"])
@blueprint.arguments(DeadLetterFilterSchema, location="query")
@blueprint.response(200, {"oneOf": [DeadLetterPageSchema, DeadLetterGroupsSchema]})
def list_dead_letters(arguments: dict[str, Any]) -> Response:
    """List your dead letters, newest first, or in groups; operators see those of their organization."""
    page = Page.taken_from(arguments)
    read = queries.group_dead_letters if arguments.pop("group") else queries.list_dead_letters
    return json_answer(read(current_identity(), JobFilter.taken_from(arguments, dead=True), page))


@blueprint.route("", methods=["DELETE"])
@blueprint.arguments(DeadLetterChoiceSchema, location="query", unknown=ma.RAISE)
@blueprint.response(200, BulkAnswerSchema)
@blueprint.alt_response(202, schema=JobSchema, description=BY_A_JOB)
def discard_many(arguments: dict[str, Any]) -> Response:
    """Discard all dead letters that meet conditions; the jobs stay in the history as failed."""
    choice = {"filter": arguments}
    said = {"filter": DeadLetterChoiceSchema().dump(arguments)}
    return bulk_answer(ask(Order.given(DISCARD, choice, said), current_identity()))


@blueprint.route("/replay", methods=["POST"])
@blueprint.arguments(ReplayManySchema)
@blueprint.response(200, BulkAnswerSchema)
@blueprint.alt_response(202, schema=JobSchema, description=BY_A_JOB)
def replay_many(body: dict[str, Any]) -> Response:
    """Queue many dead letters anew: those with these ids, or all that meet conditions; so many a second, if wished."""
    said = ReplayManySchema(only=("filter", "ids")).dump(body)
    return bulk_answer(ask(Order.given(REPLAY, body, said), current_identity(), rate=body["rate"]))


@blueprint.route("/<uuid:job_id>", methods=["GET"])
@blueprint.response(200, DeadLetterSchema)
def get_dead_letter(job_id: UUID) -> Response:
    """Read a dead letter with its payload, so that it can be edited."""
    return json_answer(queries.read_dead_letter(job_id, current_identity()))


@blueprint.route("/<uuid:job_id>", methods=["DELETE"])
@blueprint.response(204)
def discard_one(job_id: UUID) -> None:
    """Discard a dead letter; the job stays in the history as failed, and can still be retried."""
    visible_job(job_id, current_identity())
    with transaction():
        discard(job_id)
        record("dead_letter.discard", "job", job_id)


@blueprint.route("/<uuid:job_id>/replay", methods=["POST"])
@blueprint.arguments(ReplaySchema, required=False)
@blueprint.response(202, JobSchema)
def replay_one(body: dict[str, Any], job_id: UUID) -> Response:
    """Queue a dead letter anew, or with a `payload` a new job in its place, whose `parentId` it is."""
    identity = current_identity()
    visible_job(job_id, identity)
    with transaction():
        row = replay_edited(job_id, body["payload"], identity) if "payload" in body else replay(job_id)
        job = job_json(row)
        record("dead_letter.replay", "job", job_id, {"jobId": job["id"]})
    return json_answer(job, 202, {"Location": f"/api/jobs/{job['id']}"})
