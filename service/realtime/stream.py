"""A user's events as a line of Server-Sent Events: for clients that want no sockets, and for command lines."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from service.realtime.log import Event, EventId
from service.realtime.vocabulary import DEFAULT, numbered

# Without a sign of life proxies take a connection for dead (contract, "SSE").
COMMENT_SECONDS = 15.0
# A reader that is further behind than this is cut off; it comes back and reads on from the log.
MOST_WAITING = 2_000

# What `resumed` says where something was missed that nobody can tell any more.
LOST = {"recovered": False}


def recovered(count: int) -> dict[str, Any]:
    """What `resumed` says after so many messages that were missed."""
    return {"recovered": True, "count": count}


@dataclass(frozen=True)
class Wanted:
    """Which of a user's events: those of a namespace, of one job or of all."""

    user_id: str
    namespace: str = DEFAULT
    job_id: str | None = None


# An event of the log, or what `resumed` says; None: the end.
Item = Event | dict[str, Any] | None


class Stream:
    """What one reader of a user's events is still to get; filled by the gateway, read by one request."""

    def __init__(self, wanted: Wanted, since: EventId | None, begins_at: EventId | None) -> None:
        self.wanted = wanted
        # The number of the newest event as the stream began; None where the reader goes on from an older one.
        self.begins_at = begins_at
        self._last = since
        self._items: queue.Queue[Item] = queue.Queue()

    def put(self, item: Event | dict[str, Any]) -> None:
        """One more thing to tell."""
        if self._items.qsize() < MOST_WAITING:
            self._items.put(item)
        elif self._items.qsize() == MOST_WAITING:
            self.end()

    def end(self) -> None:
        """Nothing more is told."""
        self._items.put(None)

    def resume(self, missed: Sequence[Event] | None) -> None:
        """Begin with what the reader missed, or with the admission that nobody knows."""
        if missed is not None:
            self.begins_at = None
        for event in missed or ():
            self.put(event)
        count = sum(len(list(self.messages(event))) for event in missed or ())
        self.put(LOST if missed is None else recovered(count))

    def read(self, until: float) -> Iterator[Event | dict[str, Any] | None]:
        """What comes, None for each while without anything, until `until` (Unix seconds) or the reader is cut off."""
        while (left := until - time.time()) > 0:
            try:
                item = self._items.get(timeout=min(COMMENT_SECONDS, left))
            except queue.Empty:
                yield None
                continue
            if item is None:
                return
            yield item

    def waiting(self) -> Iterator[Event | dict[str, Any]]:
        """What waits to be read at this moment."""
        while not self._items.empty():
            item = self._items.get_nowait()
            if item is not None:
                yield item

    def messages(self, event: Event) -> Iterator[str]:
        """An event as it goes over the line: each of its messages that the reader does not have yet."""
        if self.wanted.job_id is not None and event.entry.get("job", {}).get("id") != self.wanted.job_id:
            return
        for number, message in numbered(self.wanted.namespace, event.entry, event.id.seq):
            if self._last is None or event.id.epoch != self._last.epoch or number > self._last.seq:
                yield line(message.name, message.data, EventId(event.id.epoch, number))


def line(name: str, data: dict[str, Any], event_id: EventId | None = None) -> str:
    """One event of the format of the WHATWG HTML standard, section "Server-sent events"."""
    number = "" if event_id is None else f"id: {event_id}\n"
    return f"event: {name}\n{number}data: {json.dumps(data, separators=(',', ':'), ensure_ascii=False)}\n\n"
