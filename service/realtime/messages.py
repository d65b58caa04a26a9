"""The messages of the AsyncAPI document.

What is told is found by having an example of each domain event spoken by the code that speaks to clients: an event
without an example, or a message without a schema, raises KeyError, which a test of the house sees first.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from service.realtime import schemas
from service.realtime.examples import ERROR, EVENT_ID, EXAMPLES, HANDSHAKE_TOKEN, JOB_ID, QUEUED, STATS, USER_ID
from service.realtime.schemas import TOLD, Shape
from service.realtime.vocabulary import JOB_ROOM, TABLE, Message

SCHEMAS = "#/components/schemas"


@dataclass(frozen=True)
class Described:
    """A message of the document: its key, the event's name, the shapes its data may have, and data as examples."""

    key: str
    name: str
    shapes: tuple[Shape, ...]
    examples: tuple[Any, ...]
    # Whether it always has a number in its data.
    is_numbered: bool = False
    # Whether an id alone will do.
    takes_id: bool = False

    @property
    def summary(self) -> str:
        """What a client should know of it."""
        return about(self.shapes[0])

    @property
    def entry(self) -> dict[str, Any]:
        """The message as the document has it."""
        return {
            "name": self.name,
            "title": self.name,
            "summary": self.summary,
            "contentType": "application/json",
            "payload": self._payload(),
            "examples": [{"payload": example} for example in self.examples],
        }

    def _payload(self) -> dict[str, Any]:
        options: list[dict[str, Any]] = [{"$ref": f"{SCHEMAS}/{schema_name(shape)}"} for shape in self.shapes]
        if self.takes_id:
            options.append({"type": "string", "format": "uuid"})
        payload = options[0] if len(options) == 1 else {"oneOf": options}
        return {"allOf": [payload, {"required": ["eventId"]}]} if self.is_numbered else payload


def about(shape: Shape) -> str:
    """What the docstring of a schema says."""
    return inspect.getdoc(shape) or ""


def schema_name(shape: Shape) -> str:
    """The name of a schema in the document."""
    return str(shape.__name__).removesuffix("Schema")


def _key(name: str) -> str:
    """An event's name as a word for references: `job:created` is jobCreated."""
    words: list[str] = re.findall(r"[^\W_]+", name)
    return words[0] + "".join(word[0].upper() + word[1:] for word in words[1:])


# What is told


def _described(message: Message) -> Described:
    """A message as it was spoken of an example."""
    name = message.name.replace(JOB_ID, "{jobId}")
    # All of them have one name and a type instead.
    told_as = message.data["eventType"] if name == "queue-update" else name
    key = _key(f"{name}:{told_as}" if name == "queue-update" else name.replace("{jobId}", "room"))
    return Described(key, name, (TOLD[told_as],), (message.data,))


def _numbered(message: Described) -> Described:
    """A message as sockets hear it; the present count comes before all news, without a number."""
    if message.name == "unread-count":
        return message
    return replace(message, examples=({**message.examples[0], "eventId": EVENT_ID},), is_numbered=True)


def told(namespace: str) -> tuple[Described, ...]:
    """What the sockets of a namespace hear of what is their user's own."""
    spoken = (_described(speak(EXAMPLES[event])) for event, speakers in TABLE[namespace].items() for speak in speakers)
    return tuple({message.key: _numbered(message) for message in spoken}.values())


def streamed(namespace: str, *, of_jobs: bool = False) -> tuple[Described, ...]:
    """What a stream tells of a namespace, its numbers beside the data; `of_jobs`: only what is about a job."""
    events = [event for event in TABLE[namespace] if not of_jobs or "job" in EXAMPLES[event]]
    spoken = (_described(speak(EXAMPLES[event])) for event in events for speak in TABLE[namespace][event])
    return tuple({message.key: replace(message, key=f"{message.key}Streamed") for message in spoken}.values())


def told_in_job_rooms() -> tuple[Described, ...]:
    """What those hear who subscribed to a job."""
    return tuple(_described(speak(EXAMPLES[event])) for event, speak in JOB_ROOM.items())


# What a connection, or a stream, says beside that


def _said(name: str, shapes: Sequence[Shape], examples: Sequence[Any]) -> Described:
    return Described(_key(name), name, tuple(shapes), tuple(examples))


AUTHENTICATED = _said("authenticated", [schemas.AuthenticatedSchema], [{"userId": USER_ID, "lastEventId": EVENT_ID}])
RESUMED = _said(
    "resumed",
    [schemas.RecoveredSchema, schemas.LostSchema],
    [{"recovered": True, "count": 7}, {"recovered": False}],
)
REFUSAL = _said("connect_error", [schemas.RefusalSchema], [{"message": ERROR["message"], "data": ERROR}])
EXPIRING = _said("auth:expiring", [schemas.ExpiringSchema], [{"expiresInSeconds": 60}])
QUEUE_STATS = _said("queue:stats", [schemas.QueueStatsSchema], [STATS])
JOB_AS_IT_IS = _said("job", [schemas.JobNowSchema], [QUEUED])


# What a client sends


@dataclass(frozen=True)
class Asked:
    """An event of clients, and its acknowledgement."""

    event: Described
    acknowledgement: Described


def _asked(event: Described, accepted: Shape, answer: dict[str, Any]) -> Asked:
    name = f"{event.name} acknowledged"
    refused = {"ok": False, "error": {**ERROR, "requestId": USER_ID}}
    return Asked(event, _said(name, [accepted, schemas.RefusedSchema], [{"ok": True, **answer}, refused]))


CONNECT = _said("connect", [schemas.ConnectSchema], [{"token": HANDSHAKE_TOKEN, "lastEventId": EVENT_ID}, {}])
AUTHENTICATE = _asked(
    _said("authenticate", [schemas.AuthenticateSchema], [{"token": HANDSHAKE_TOKEN}]),
    schemas.AuthenticationAcceptedSchema,
    {"userId": USER_ID, "lastEventId": EVENT_ID},
)
SUBSCRIBE = _asked(
    replace(_said("subscribe:job", [schemas.SubscribeSchema], [{"jobId": JOB_ID}, JOB_ID]), takes_id=True),
    schemas.SubscriptionAcceptedSchema,
    {"job": QUEUED},
)
UNSUBSCRIBE = _asked(
    replace(_said("unsubscribe:job", [schemas.UnsubscribeSchema], [{"jobId": JOB_ID}, JOB_ID]), takes_id=True),
    schemas.AcceptedSchema,
    {},
)
