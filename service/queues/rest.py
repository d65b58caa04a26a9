"""`/api/admin/queues` and `/api/admin/limits`: for those who run the installation."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint

from service.accounts.platform import requires_platform_operator
from service.audit.actions import record
from service.database import transaction
from service.errors import ValidationFailed
from service.jobs.limits import Limit
from service.queues import queries
from service.queues.actions import drain_queue, pause_queue, remove_limit, resume_queue, set_limit
from service.queues.schemas import (
    LimitBodySchema,
    LimitListSchema,
    LimitSchema,
    QueueListSchema,
    QueueSchema,
    is_subject,
)
from service.web import json_answer

blueprint = Blueprint("queues", __name__, url_prefix="/api/admin", description="Steer what runs")


@blueprint.route("/queues", methods=["GET"])
@blueprint.response(200, QueueListSchema)
@requires_platform_operator
def list_queues() -> Response:
    """List the queues: how much waits, how long, how fast it goes."""
    return json_answer({"data": queries.all_queues()})


@blueprint.route("/queues/<name>", methods=["GET"])
@blueprint.response(200, QueueSchema)
@requires_platform_operator
def get_queue(name: str) -> Response:
    """Read one queue."""
    return json_answer(queries.one_queue(name))


@blueprint.route("/queues/<name>/pause", methods=["POST"])
@blueprint.response(200, QueueSchema)
@requires_platform_operator
def pause(name: str) -> Response:
    """Start no more jobs of a queue; what runs goes on."""
    with transaction():
        pause_queue(name)
        record("queue.pause", "queue", name)
    return json_answer(queries.one_queue(name))


@blueprint.route("/queues/<name>/resume", methods=["POST"])
@blueprint.response(200, QueueSchema)
@requires_platform_operator
def resume(name: str) -> Response:
    """Let a queue go on after a pause or a drain."""
    with transaction():
        resume_queue(name)
        record("queue.resume", "queue", name)
    return json_answer(queries.one_queue(name))


@blueprint.route("/queues/<name>/drain", methods=["POST"])
@blueprint.response(200, QueueSchema)
@requires_platform_operator
def drain(name: str) -> Response:
    """Work off what a queue has; jobs submitted from now on wait until it is resumed."""
    with transaction():
        drain_queue(name)
        record("queue.drain", "queue", name)
    return json_answer(queries.one_queue(name))


@blueprint.route("/limits", methods=["GET"])
@blueprint.response(200, LimitListSchema)
@requires_platform_operator
def list_limits() -> Response:
    """List the limits on what runs."""
    return json_answer({"data": queries.all_limits()})


@blueprint.route("/limits/<path:subject>", methods=["PUT"])
@blueprint.arguments(LimitBodySchema)
@blueprint.response(200, LimitSchema)
@requires_platform_operator
def put_limit(limit: Limit, subject: str) -> Response:
    """Limit a type, a key, a user or a tenant, in place of what the code and the settings say."""
    if not is_subject(subject):
        raise ValidationFailed(errors={"subject": ["Names no type, key, user or tenant."]})
    with transaction():
        set_limit(subject, limit)
        record("limit.set", "limit", subject)
    return json_answer(queries.limit_json(subject, limit, "operator"))


@blueprint.route("/limits/<path:subject>", methods=["DELETE"])
@blueprint.response(204)
@requires_platform_operator
def delete_limit(subject: str) -> Response:
    """Let code and settings say again what a subject may do."""
    with transaction():
        remove_limit(subject)
        record("limit.remove", "limit", subject)
    return Response(status=204)
