"""Stock Socket.IO clients that keep a journal: python-socketio, and the npm `socket.io-client` under Node."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import engineio
import requests
import socketio

from tests.acceptance.journal import Journal

CONNECT_SECONDS = 10
CALL_SECONDS = 10


class _InOrder(engineio.Client):
    """engineio starts a thread for each message, and threads overtake one another: here one thread takes them all."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._messages = ThreadPoolExecutor(1, "socket-messages")

    def start_background_task(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if target == self.handlers.get("message"):
            return self._messages.submit(target, *args, **kwargs)
        return super().start_background_task(target, *args, **kwargs)


class _Client(socketio.Client):
    def _engineio_client_class(self) -> type[engineio.Client]:
        return _InOrder


class Socket:
    """A python-socketio client of one user."""

    def __init__(self, url: str, owner: str = "the Python client", namespace: str = "/") -> None:
        self.journal = Journal(owner)
        self.refusals: list[Any] = []
        self.disconnected = threading.Event()
        self._url = url
        self._namespace = namespace
        # The client forgets the headers it is given; the cookies of its session go with every request.
        self._http = requests.Session()
        self._client = _Client(
            http_session=self._http, reconnection_delay=0.1, reconnection_delay_max=0.5, handle_sigint=False
        )
        self._client.on("*", self._hear, namespace)
        self._client.on("connect", self.disconnected.clear, namespace)
        self._client.on("connect_error", self.refusals.append, namespace)
        self._client.on("disconnect", lambda *_: self.disconnected.set(), namespace)
        self.last_event_id: str | None = None

    def connect(
        self,
        token: str | None = None,
        last_event_id: str | None = None,
        cookies: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Self:
        """Connect with a token in the handshake, as a browser would after a page load; None: without one.

        After a lost connection the client connects by itself, and tells the last number it has heard.
        `options` are those of `socketio.Client.connect`.
        """
        self.last_event_id = last_event_id
        self._http.cookies.update(cookies or {})

        def auth() -> dict[str, str]:
            # What came over the former connection may still wait to be heard.
            self._client.eio._messages.submit(lambda: None).result(CONNECT_SECONDS)
            given = {"token": token, "lastEventId": self.last_event_id}
            return {name: value for name, value in given.items() if value is not None}

        self._client.connect(
            self._url, auth=auth, namespaces=[self._namespace], wait_timeout=CONNECT_SECONDS, **options
        )
        if token is not None:
            self.journal.first("authenticated")
        return self

    @property
    def transport(self) -> str:
        """What the connection is by now: polling or websocket."""
        return str(self._client.transport())

    def call(self, name: str, data: Any = None) -> dict[str, Any]:
        """Emit an event and return its acknowledgement."""
        acknowledgement: dict[str, Any] = self._client.call(name, data, self._namespace, timeout=CALL_SECONDS)
        return acknowledgement

    def close(self) -> None:
        """Disconnect, for good."""
        self._client.shutdown()
        self._client.eio._messages.shutdown(cancel_futures=True)
        self._http.close()

    def _hear(self, name: str, data: Any = None) -> None:
        self.journal.note(name, data)
        # What an application would keep in its storage.
        if isinstance(data, dict) and (number := data.get("eventId") or data.get("lastEventId")):
            self.last_event_id = number

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def node_socket(folder: Path, url: str, token: str) -> Iterator[Journal]:
    """The journal of an npm `socket.io-client`, connected; `folder` holds client.js and its node_modules."""
    journal = Journal("the Node client")
    with subprocess.Popen(
        ["node", "client.js", url],
        cwd=folder,
        env={**os.environ, "TOKEN": token},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout

        def read() -> None:
            for line in process.stdout:
                journal.note(*json.loads(line))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            journal.first("authenticated")
            yield journal
        finally:
            # It ends when its input does.
            process.stdin.close()
            try:
                process.wait(10)
            finally:
                process.kill()
                reader.join(10)
