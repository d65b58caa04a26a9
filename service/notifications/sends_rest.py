"""`POST /api/notifications`, `/api/notification-sends`, and the trace of a notification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from flask import Response
from flask_smorest import Blueprint

from service.accounts.identity import current_identity, requires_role
from service.audit.actions import record
from service.database import transaction
from service.jobs.schemas import IdempotencySchema
from service.notifications.asking import new_send
from service.notifications.send_reports import list_sends, report, visible_send
from service.notifications.sends import SENDING_ROLES, Sender, Sent, cancel_send, send_all
from service.notifications.sends_schemas import (
    AcceptedSendSchema,
    AcceptedSendsSchema,
    NewSendSchema,
    SendBatchSchema,
    SendPageSchema,
    SendSchema,
    TraceSchema,
)
from service.notifications.trace import trace
from service.pagination import LongListArguments, Page
from service.web import json_answer

blueprint = Blueprint(
    "notification-sends", __name__, url_prefix="/api", description="Send notifications and see what became of them"
)


def _sender() -> Sender:
    identity = current_identity()
    return Sender(organization_id=identity.organization_id, user_id=identity.user_id, roles=identity.roles)


def _send(bodies: Sequence[Mapping[str, Any]], idempotency_key: str | None) -> list[Sent]:
    return send_all([new_send(body) for body in bodies], _sender(), idempotency_key=idempotency_key)


def _accepted_json(sent: Sent) -> dict[str, Any]:
    jobs = [{"channel": channel, "jobId": str(job_id)} for channel, job_id in sent.jobs.items()]
    return {"id": str(sent.send_id), "jobs": jobs}


def _replay_headers(sent: Sent) -> dict[str, str]:
    return {"Idempotency-Replayed": "true"} if sent.is_replay else {}


@blueprint.route("/notifications", methods=["POST"])
@requires_role(*SENDING_ROLES)
@blueprint.arguments(NewSendSchema)
@blueprint.arguments(IdempotencySchema, location="headers", as_kwargs=True)
@blueprint.response(202, AcceptedSendSchema)
def send(body: dict[str, Any], idempotency_key: str | None) -> Response:
    """Send a notification to users, roles or everybody, by one or more channels."""
    (sent,) = _send([body], idempotency_key)
    headers = {"Location": f"/api/notification-sends/{sent.send_id}", **_replay_headers(sent)}
    return json_answer(_accepted_json(sent), 202, headers)


@blueprint.route("/notifications/batch", methods=["POST"])
@requires_role(*SENDING_ROLES)
@blueprint.arguments(SendBatchSchema)
@blueprint.arguments(IdempotencySchema, location="headers", as_kwargs=True)
@blueprint.response(202, AcceptedSendsSchema)
def send_batch(body: dict[str, Any], idempotency_key: str | None) -> Response:
    """Send up to 100 notifications, all or none."""
    sent = _send(body["notifications"], idempotency_key)
    return json_answer({"data": [_accepted_json(each) for each in sent]}, 202, _replay_headers(sent[0]))


@blueprint.route("/notification-sends", methods=["GET"])
@blueprint.arguments(LongListArguments, location="query")
@blueprint.response(200, SendPageSchema)
def list_all(arguments: dict[str, Any]) -> Response:
    """List what you have sent, newest first; operators see what their organization has."""
    return json_answer(list_sends(current_identity(), Page.taken_from(arguments)))


@blueprint.route("/notification-sends/<uuid:send_id>", methods=["GET"])
@blueprint.response(200, SendSchema)
def get_send(send_id: UUID) -> Response:
    """Read how far a send has come, and what became of it by each channel."""
    return json_answer(report(visible_send(send_id, current_identity())))


@blueprint.route("/notification-sends/<uuid:send_id>", methods=["DELETE"])
@blueprint.response(200, SendSchema)
def cancel(send_id: UUID) -> Response:
    """Cancel what has not gone out yet: its jobs, and messages that are held."""
    found = visible_send(send_id, current_identity())
    with transaction():
        cancel_send(send_id)
        record("notification_send.cancel", "notification_send", send_id)
    return json_answer(report(found))


@blueprint.route("/notifications/<uuid:subject_id>/trace", methods=["GET"])
@blueprint.arguments(LongListArguments, location="query")
@blueprint.response(200, TraceSchema)
def read_trace(arguments: dict[str, Any], subject_id: UUID) -> Response:
    """Read why a notification of yours went out by each channel or did not; of a send, for each recipient."""
    return json_answer(trace(subject_id, current_identity(), Page.taken_from(arguments)))
