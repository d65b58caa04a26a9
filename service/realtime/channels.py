"""The channels of the AsyncAPI document: the namespaces, the rooms of jobs, the streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.realtime.messages import (
    AUTHENTICATE,
    AUTHENTICATED,
    CONNECT,
    EXPIRING,
    JOB_AS_IT_IS,
    QUEUE_STATS,
    REFUSAL,
    RESUMED,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Asked,
    Described,
    streamed,
    told,
    told_in_job_rooms,
)
from service.realtime.vocabulary import DEFAULT, NOTIFICATIONS, QUEUE

SOCKETS = "sockets"
STREAMS = "streams"
PARAMETERS = {"jobId": {"description": "The id of a job"}}


@dataclass(frozen=True)
class Channel:
    """A namespace, a room or a stream: what it tells, and what may be asked of it."""

    key: str
    address: str
    server: str
    title: str
    description: str
    tells: tuple[Described, ...]
    hears: tuple[Described, ...] = ()
    asked: tuple[Asked, ...] = ()

    @property
    def messages(self) -> list[Described]:
        """All that goes either way."""
        both = [message for each in self.asked for message in (each.event, each.acknowledgement)]
        return [*self.tells, *self.hears, *both]

    @property
    def entry(self) -> dict[str, Any]:
        """The channel as the document has it."""
        entry: dict[str, Any] = {
            "address": self.address,
            "title": self.title,
            "description": self.description,
            "servers": [{"$ref": f"#/servers/{self.server}"}],
            "messages": {message.key: {"$ref": f"#/components/messages/{message.key}"} for message in self.messages},
        }
        return {**entry, "parameters": PARAMETERS} if "{jobId}" in self.address else entry

    @property
    def operations(self) -> dict[str, Any]:
        """What is done at the channel: Carillon sends and receives."""
        name = self.key[0].upper() + self.key[1:]
        heard = {each.key: self._operation("receive", [each], each.summary) for each in self.hears}
        for each in self.asked:
            operation = self._operation("receive", [each.event], each.event.summary)
            heard[each.event.key] = {**operation, "reply": self._messages([each.acknowledgement])}
        return {
            f"tell{name}": self._operation("send", self.tells, self.title),
            **{f"{key}At{name}": operation for key, operation in heard.items()},
        }

    def _operation(self, action: str, messages: Sequence[Described], summary: str) -> dict[str, Any]:
        return {"action": action, "summary": summary, **self._messages(messages)}

    def _messages(self, messages: Sequence[Described]) -> dict[str, Any]:
        channel = f"#/channels/{self.key}"
        return {
            "channel": {"$ref": channel},
            "messages": [{"$ref": f"{channel}/messages/{message.key}"} for message in messages],
        }


def _namespace(
    key: str,
    address: str,
    title: str,
    description: str,
    *,
    tells: tuple[Described, ...] = (),
    asked: tuple[Asked, ...] = (),
) -> Channel:
    """A namespace, with what each of them has."""
    everything = (*told(address), *tells, AUTHENTICATED, RESUMED, EXPIRING, REFUSAL)
    return Channel(key, address, SOCKETS, title, description, everything, (CONNECT,), (AUTHENTICATE, *asked))


def channels() -> list[Channel]:
    """All channels; raises KeyError for what the vocabulary tells and nobody has described."""
    return [*_namespaces(), *_job_rooms(), *_streams()]


def _namespaces() -> list[Channel]:
    return [
        _namespace(
            "default",
            DEFAULT,
            "All of your events",
            "What happens to your jobs and in your inbox. `subscribe:job` adds the room of a job: one of yours or, for "
            "operators, one of the tenant. `queue:stats` is for who runs the installation.",
            tells=(QUEUE_STATS,),
            asked=(SUBSCRIBE, UNSUBSCRIBE),
        ),
        _namespace(
            "queue",
            QUEUE,
            "Updates of the queue",
            "One kind of event, `queue-update`, for all that happens to your jobs.",
        ),
        _namespace(
            "notifications",
            NOTIFICATIONS,
            "The inbox",
            "What comes to your inbox, and what is changed in it on any device, each with the present count.",
        ),
    ]


def _job_rooms() -> list[Channel]:
    """An address for each event of a job's room: the id is part of the event's name."""
    return [
        Channel(
            message.key,
            message.name,
            SOCKETS,
            message.summary,
            "An event of the default namespace, for sockets that sent `subscribe:job`. It has no number.",
            (message,),
        )
        for message in told_in_job_rooms()
    ]


def _streams() -> list[Channel]:
    """Server-Sent Events: `event:` is the name of the message, `data:` its payload, `id:` its number."""
    return [
        Channel(
            "events",
            "/api/events",
            STREAMS,
            "All of your events, as a stream",
            "The events of the default namespace. A stream ends with the token that opened it.",
            (*streamed(DEFAULT), RESUMED),
        ),
        Channel(
            "jobStream",
            "/api/jobs/{jobId}/stream",
            STREAMS,
            "A job, as a stream",
            "First `job`, the job as it is, then its events until its end, which ends the stream.",
            (JOB_AS_IT_IS, *streamed(DEFAULT, of_jobs=True), RESUMED),
        ),
        Channel(
            "inboxStream",
            "/api/notifications/stream",
            STREAMS,
            "The inbox, as a stream",
            "First `unread-count`, then the events of the namespace `/notifications`.",
            (*streamed(NOTIFICATIONS), RESUMED),
        ),
    ]
