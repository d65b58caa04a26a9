"""All of a user's numbered events, over connections that come and go."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from service.client.transport import Pauses, Transport


@dataclass(frozen=True)
class Event:
    """Something that happened, in the words of the default namespace; the number `id` is what to resume after."""

    id: str | None
    name: str
    data: Any


@dataclass(frozen=True)
class Gap:
    """Events after the one numbered `after` are lost: read what matters once, then go on."""

    after: str | None


def follow(transport: Transport, path: str, last_event_id: str | None) -> Iterator[Event | Gap]:
    """The events of a stream, without end; each once and in order, or a Gap where some are missing."""
    known = last_event_id
    pauses = Pauses()
    is_first = True
    while True:
        with transport.stream(path, last_event_id=known) as stream:
            if known is None and not is_first:
                # What happened while nobody listened has no number to resume after.
                yield Gap(None)
            is_first = False
            for message in stream:
                pauses.reset()
                data = json.loads(message.data)
                if message.event != "resumed":
                    yield Event(message.id, message.event, data)
                elif not data["recovered"]:
                    yield Gap(known)
                known = message.id or known
            # It may have named a number and then nothing happened.
            known = stream.last_id or known
        time.sleep(pauses.next())
