"""The events that endpoints can ask for: what each means, and its body as JSON Schema and as a sample.

Bodies may gain fields, so no schema forbids them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from service.clock import isoformat
from service.webhooks.payloads import flat_data

ALL = "all"

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SAMPLE_TIME = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
_SAMPLE_ID = "019ca945-0a00-7d3a-8a52-6f0c2b1e4d77"

_ID = {"type": "string", "format": "uuid"}
_MOMENT = {"type": "string", "format": "date-time"}
_TEXT = {"type": "string"}
_PERCENTAGE = {"type": "number", "minimum": 0, "maximum": 100}


def _object(properties: Mapping[str, Any], *, optional: Collection[str] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required}


_PROGRESS = _object(
    {
        "current": {"type": "number"},
        "total": {"type": "number"},
        "percentage": _PERCENTAGE,
        "message": _TEXT,
        "detail": _TEXT,
        "etaSeconds": {"type": "number"},
    },
    optional=("message", "detail", "etaSeconds"),
)
_JOB = {
    "id": {**_ID, "description": "Of the job"},
    "jobname": _TEXT,
    "userId": {**_ID, "description": "Of the job's owner"},
}
_JOB_SAMPLE = {
    "id": _SAMPLE_ID,
    "jobname": "Nightly report",
    "userId": "019c0a11-5e70-7b44-9d1f-3c8e5a90b2f6",
}


@dataclass(frozen=True, kw_only=True)
class EventKind:
    """A kind of event; `data` are the properties of what its body tells, `sample` an example of it."""

    # What an endpoint asks for; None where none can.
    event_type: str | None
    # What the body says.
    type: str
    description: str
    data: Mapping[str, Any]
    sample: Mapping[str, Any]

    def payload(self, data: Mapping[str, Any], at: datetime) -> dict[str, Any]:
        """The standard body of such an event at a moment."""
        return {"type": self.type, "timestamp": isoformat(at), "data": data}

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the standard body."""
        properties = {"type": {"const": self.type}, "timestamp": _MOMENT, "data": _object(self.data)}
        return {"$schema": _DIALECT, "title": self.type, **_object(properties)}

    def flat_schema(self) -> dict[str, Any]:
        """JSON Schema of the flat body."""
        percentage = {"progress": _PERCENTAGE} if "progress" in self.data else {}
        return {"$schema": _DIALECT, "title": self.type, **_object({**self.data, **percentage})}


TEST = EventKind(
    event_type=None,
    type="webhook.test",
    description=(
        "Was asked for by POST /api/webhooks/{id}/test, or tries an endpoint that was switched on again. Flat endpoints"
        " are sent the sample of `completed` instead, for their bodies do not say what they are."
    ),
    data={"webhookId": _ID, "message": _TEXT},
    sample={"webhookId": _SAMPLE_ID, "message": "This endpoint is reached."},
)

COMPLETED = EventKind(
    event_type="completed",
    type="job.completed",
    description="A job has its result; told once.",
    data={**_JOB, "result": {"description": "Any JSON; null for a sensitive job, whose owner fetches it"}},
    sample={**_JOB_SAMPLE, "result": {"rows": 1200, "file": "report.csv"}},
)

_KINDS = (
    EventKind(
        event_type="created",
        type="job.created",
        description="A job was accepted.",
        data=_JOB,
        sample=_JOB_SAMPLE,
    ),
    EventKind(
        event_type="started",
        type="job.started",
        description="A worker began an attempt at a job; a job that is tried again starts again.",
        data=_JOB,
        sample=_JOB_SAMPLE,
    ),
    EventKind(
        event_type="progress",
        type="job.progress",
        description=(
            "A running job tells how far it has come: at most once a second, and what was not yet sent gives way to"
            " what is newer."
        ),
        data={**_JOB, "progress": _PROGRESS},
        sample={
            **_JOB_SAMPLE,
            "progress": {
                "current": 480,
                "total": 1200,
                "percentage": 40,
                "message": "480 of 1200 rows",
                "etaSeconds": 12.5,
            },
        },
    ),
    COMPLETED,
    EventKind(
        event_type="failed",
        type="job.failed",
        description="A job failed for good: its attempts are spent, or its error is permanent; told once.",
        data={**_JOB, "error": _TEXT, "errorCode": {**_TEXT, "description": "A stable word"}},
        sample={**_JOB_SAMPLE, "error": "The source was not there.", "errorCode": "file_not_found"},
    ),
    EventKind(
        event_type="cancelled",
        type="job.cancelled",
        description="Somebody cancelled a job; told once.",
        data={**_JOB, "reason": {"type": ["string", "null"]}},
        sample={**_JOB_SAMPLE, "reason": "Not needed any more."},
    ),
    EventKind(
        event_type="notification",
        type="notification.created",
        description="Something came into your inbox.",
        data={
            "id": _ID,
            "type": _TEXT,
            "category": _TEXT,
            "title": _TEXT,
            "message": _TEXT,
            "data": {"type": "object"},
            "read": {"type": "boolean"},
            "readAt": {**_MOMENT, "type": ["string", "null"]},
            "createdAt": _MOMENT,
        },
        sample={
            "id": _SAMPLE_ID,
            "type": "job_completed",
            "category": "jobs",
            "title": "Nightly report completed",
            "message": "Nightly report completed successfully.",
            "data": {"jobId": _SAMPLE_ID, "jobType": "report"},
            "read": False,
            "readAt": None,
            "createdAt": isoformat(_SAMPLE_TIME),
        },
    ),
)

# By what an endpoint asks for.
KINDS: Mapping[str, EventKind] = {kind.event_type: kind for kind in _KINDS if kind.event_type}
EVENT_TYPES = (*KINDS, ALL)
# What bodies say, by both words for it.
TYPES: Mapping[str, str] = {
    **{name: kind.type for name, kind in KINDS.items()},
    **{kind.type: kind.type for kind in (*_KINDS, TEST)},
}
# What `all` is: an endpoint of the time before there was more is sent no events that it does not know.
OF_ALL = tuple(name for name in KINDS if name != "notification")
OF_ALL_FLAT = ("progress", "completed", "failed")


def catalogue_json() -> dict[str, Any]:
    """All kinds of events, and what `all` stands for."""
    return {
        "data": [_kind_json(kind) for kind in (*_KINDS, TEST)],
        "all": {
            "description": "Every event of your jobs, in the flat format the three that its receivers know.",
            "eventTypes": list(OF_ALL),
            "flatEventTypes": list(OF_ALL_FLAT),
        },
    }


def _kind_json(kind: EventKind) -> dict[str, Any]:
    flat = COMPLETED if kind is TEST else kind
    return {
        "eventType": kind.event_type,
        "type": kind.type,
        "description": kind.description,
        "schema": kind.schema(),
        "flatSchema": flat.flat_schema(),
        "sample": kind.payload(kind.sample, _SAMPLE_TIME),
        "flatSample": flat_data(flat.sample),
    }
