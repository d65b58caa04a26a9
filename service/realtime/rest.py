"""Streams of Server-Sent Events: all of a user's events, one job's, the inbox's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import marshmallow as ma
from flask import Response, request
from flask_smorest import Blueprint

from service.accounts.identity import current_identity, public, takes_ticket
from service.jobs.queries import visible_job
from service.jobs.representation import job_json
from service.jobs.states import FINAL
from service.notifications.counts import unread_count
from service.realtime import realtime
from service.realtime.asyncapi import asyncapi_document
from service.realtime.log import Event, parse_event_id
from service.realtime.stream import Stream, Wanted, line
from service.realtime.vocabulary import NOTIFICATIONS
from service.web import json_answer

blueprint = Blueprint("streams", __name__, url_prefix="/api", description="Events as they happen, over HTTP")

# How long a browser waits before it comes back.
RETRY_MILLISECONDS = 2_000
HEADERS = {
    "Cache-Control": "no-store",
    # nginx would keep events back until a buffer is full.
    "X-Accel-Buffering": "no",
}
ENDS = frozenset({"JobCompleted", "JobFailed", "JobCancelled"})
TEXT = {"type": "string", "description": "Server-Sent Events; the AsyncAPI document says which"}


class StreamSchema(ma.Schema):
    """For browsers, whose `EventSource` sends no headers of one's own."""

    ticket = ma.fields.String(metadata={"description": "From POST /api/auth/stream-ticket, instead of a header"})
    last_event_id = ma.fields.String(
        data_key="lastEventId", metadata={"description": "Instead of the header Last-Event-ID"}
    )


@blueprint.route("/events", methods=["GET"])
@takes_ticket
@blueprint.arguments(StreamSchema, location="query")
@blueprint.response(200, TEXT, content_type="text/event-stream")
def stream_events(arguments: dict[str, Any]) -> Response:
    """Follow all of your events."""
    return _answer(Wanted(str(current_identity().user_id)), arguments)


@blueprint.route("/jobs/<uuid:job_id>/stream", methods=["GET"])
@takes_ticket
@blueprint.arguments(StreamSchema, location="query")
@blueprint.response(200, TEXT, content_type="text/event-stream")
def stream_job(arguments: dict[str, Any], job_id: UUID) -> Response:
    """Follow a job: first `job` with the job as it is, then its events until its end, which ends the stream."""
    owner = visible_job(job_id, current_identity())["user_id"]
    return _answer(Wanted(str(owner), job_id=str(job_id)), arguments)


@blueprint.route("/notifications/stream", methods=["GET"])
@takes_ticket
@blueprint.arguments(StreamSchema, location="query")
@blueprint.response(200, TEXT, content_type="text/event-stream")
def stream_notifications(arguments: dict[str, Any]) -> Response:
    """Follow your inbox: first `unread-count`, then what comes and what is read or deleted on other devices."""
    return _answer(Wanted(str(current_identity().user_id), NOTIFICATIONS), arguments)


@blueprint.route("/asyncapi.json", methods=["GET"])
@blueprint.response(200, {"type": "object"})
@blueprint.doc(security=[])
@public
def asyncapi() -> Response:
    """Describe the sockets and streams, in AsyncAPI 3.0."""
    return json_answer(asyncapi_document(request.host, is_secure=request.is_secure))


def _answer(wanted: Wanted, arguments: dict[str, Any]) -> Response:
    identity = current_identity()
    given = request.headers.get("Last-Event-ID") or arguments.get("last_event_id")
    gateway = realtime().gateway
    stream = gateway.open_stream(wanted, parse_event_id(given) if given else None, resumes=bool(given))
    try:
        # Read now that the stream is open: what happens from here on comes over it.
        first, is_over = _first(wanted)
    except BaseException:
        gateway.close_stream(stream)
        raise
    answer = Response(_lines(stream, first, is_over, identity.expires_at, resumes=bool(given)), headers=HEADERS)
    answer.content_type = "text/event-stream"
    answer.call_on_close(lambda: gateway.close_stream(stream))
    return answer


def _first(wanted: Wanted) -> tuple[str, bool]:
    """What a stream begins with, and whether nothing will follow."""
    if wanted.namespace == NOTIFICATIONS:
        return line("unread-count", unread_count(current_identity().user_id)), False
    if wanted.job_id is None:
        return "", False
    job = visible_job(UUID(wanted.job_id), current_identity())
    return line("job", job_json(job)), job["status"] in FINAL


def _lines(stream: Stream, first: str, is_over: bool, expires_at: int, *, resumes: bool) -> Iterator[str]:
    # A number without an event: who hears nothing at first, or has lost what was before, can resume from here too.
    begins = "" if stream.begins_at is None else f"id: {stream.begins_at}\n\n"
    yield f"retry: {RETRY_MILLISECONDS}\n\n{first}{begins}"
    # Of a job that is over there is at most what was missed.
    for item in stream.waiting() if is_over else stream.read(expires_at):
        if item is None:
            yield ": still here\n\n"
        elif isinstance(item, Event):
            yield "".join(stream.messages(item))
            # An end among what was missed may not have been the last: somebody has retried the job since.
            if not resumes and stream.wanted.job_id is not None and _is_end(stream.wanted.job_id, item):
                return
        else:
            resumes = False
            yield line("resumed", item)


def _is_end(job_id: str, event: Event) -> bool:
    return event.entry["event"] in ENDS and bool(event.entry["job"]["id"] == job_id)
