"""A reader of Server-Sent Events that keeps a journal, as `EventSource` would hear it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from typing import Self
from urllib.parse import urlsplit

from tests.acceptance.journal import Journal

CONNECT_SECONDS = 10
# Longer than between two signs of life.
SILENCE_SECONDS = 40


class EventStream:
    """One stream and, after `reconnect`, its continuation from the last number heard."""

    def __init__(self, url: str, path: str, token: str | None = None, last_event_id: str | None = None) -> None:
        self.journal = Journal(f"the reader of {path}")
        self.last_event_id = last_event_id
        self.ended = threading.Event()
        self.headers: dict[str, str] = {}
        self._url, self._path, self._token = url, path, token
        self._socket: socket.socket | None = None
        self._reader: threading.Thread | None = None

    def connect(self) -> Self:
        """Open the stream; fails where the answer is none."""
        self.ended.clear()
        address = urlsplit(self._url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=CONNECT_SECONDS)
        headers = {"Accept": "text/event-stream"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if self.last_event_id is not None:
            headers["Last-Event-ID"] = self.last_event_id
        connection.connect()
        self._socket = connection.sock
        self._socket.settimeout(SILENCE_SECONDS)
        connection.request("GET", self._path, headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200, f"{self._path} answered {answer.status}: {answer.read()!r}"
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        assert self.headers["content-type"].startswith("text/event-stream")
        self._reader = threading.Thread(target=self._read, args=(answer,), daemon=True)
        self._reader.start()
        return self

    def reconnect(self) -> Self:
        """Come back with the last number, once the connection is gone."""
        assert self.ended.wait(CONNECT_SECONDS), f"{self._path} is still open"
        return self.connect()

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        if self._reader is not None:
            self._reader.join(CONNECT_SECONDS)

    def _read(self, answer: http.client.HTTPResponse) -> None:
        # As the WHATWG HTML standard interprets a stream: a number counts even without an event.
        fields: dict[str, str] = {}
        try:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                while line := answer.readline().decode():
                    if line == "\n":
                        self._dispatch(fields)
                        fields = {}
                    elif not line.startswith(":"):
                        name, _, value = line.rstrip("\n").partition(": ")
                        fields[name] = value
        finally:
            answer.close()
            if self._socket is not None:
                self._socket.close()
            self.ended.set()

    def _dispatch(self, fields: dict[str, str]) -> None:
        number = fields.get("id")
        if "data" in fields:
            data = json.loads(fields["data"])
            self.journal.note(fields["event"], {**data, "eventId": number} if number else data)
        if number:
            self.last_event_id = number

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
