"""Server-Sent Events: from the bytes of an answer to messages, parsed as the HTML standard says."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class Message:
    """An event as it came; `id` is the newest that the stream has named, with this event or before it."""

    event: str
    data: str
    id: str | None


class Parser:
    """Takes pieces of a stream, cut anywhere, and gives the messages they complete; what is cut off is never given.

    `last_id` is the newest number that the stream has named.
    """

    def __init__(self) -> None:
        self.last_id: str | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest = ""
        self._ended_with_cr = False
        self._event = ""
        self._data: list[str] = []
        self._id: str | None = None

    def feed(self, piece: bytes) -> Iterator[Message]:
        """The messages that this piece completes."""
        text = self._decoder.decode(piece)
        if not text:
            return
        if self._ended_with_cr:
            # The second half of a line's end, not an empty line.
            text = text.removeprefix("\n")
        self._ended_with_cr = text.endswith("\r")
        *lines, self._rest = _LINE_END.split(self._rest + text)
        for line in lines:
            if line:
                self._take(line)
            else:
                yield from self._complete()

    def _complete(self) -> Iterator[Message]:
        # Also a number without an event counts.
        self.last_id = self._id
        if self._data:
            yield Message(self._event or "message", "\n".join(self._data), self._id)
        self._event, self._data = "", []

    def _take(self, line: str) -> None:
        # A comment has no name before its colon, and fields that are not known are left alone.
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
