"""A webhook receiver on this machine: verifies what arrives, and hands it on to an application."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import Any, Self

import requests
from urllib3.exceptions import HTTPError

from service.client import WebhookNotVerified, verify_webhook

HOST = "127.0.0.1"
BODY_LIMIT = 16 * 2**20
ANSWER_LIMIT = 2**20
READING_SECONDS = 10.0
# The platform gives up after 10 s. Who stops an application in a debugger still sees what it answers then.
APPLICATION_SECONDS = 60.0
STOP_POLL_SECONDS = 0.05

Headers = Iterable[tuple[str, str]]

# They belong to one connection, and each side writes its own.
_OF_CONNECTIONS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


@dataclass(frozen=True)
class Answer:
    """What is answered; `trouble`: why the application did not answer."""

    status: int
    headers: Headers = ()
    body: bytes = b""
    trouble: str | None = None


@dataclass(frozen=True)
class Arrival:
    """A webhook that arrived, and the answer to it; `refusal`: why it is not verified."""

    received_at: datetime
    webhook_id: str | None
    body: bytes
    refusal: str | None
    answer: Answer


class Listener:
    """A port of this machine that webhooks are posted to; `arrivals` has each, and None once it is to stop.

    Making one takes the port (0: any that is free) and raises OSError; what is posted waits until `serve`.
    """

    def __init__(self, port: int, application: str | None) -> None:
        self.arrivals: SimpleQueue[Arrival | None] = SimpleQueue()
        self._secret = ""
        self._application = application
        self._server = _Server(self, port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(STOP_POLL_SECONDS,), daemon=True)

    @property
    def url(self) -> str:
        """Where to post to."""
        return f"http://{HOST}:{self._server.server_port}/"

    def serve(self, secret: str) -> None:
        """Begin to answer: what this secret verifies is accepted."""
        self._secret = secret
        self._thread.start()

    def receive(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Verify a webhook, and hand it on to the application, if there is one; what to answer."""
        try:
            verify_webhook(self._secret, headers, body)
        except WebhookNotVerified as error:
            # Any page in a browser of this machine can post to this port: the application shall not get that.
            return self._note(headers, body, Answer(401), error.message)
        answer = Answer(204) if self._application is None else hand_on(self._application, headers, body)
        return self._note(headers, body, answer)

    def refuse(self, headers: Mapping[str, str], answer: Answer, reason: str) -> Answer:
        """Note something whose body is not read."""
        return self._note(headers, b"", answer, reason)

    def _note(self, headers: Mapping[str, str], body: bytes, answer: Answer, refusal: str | None = None) -> Answer:
        self.arrivals.put(Arrival(datetime.now(UTC), headers.get("webhook-id"), body, refusal, answer))
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.ident is not None:
            self._server.shutdown()
        self._server.server_close()


def hand_on(application: str, headers: Mapping[str, str], body: bytes) -> Answer:
    """Post a webhook to an application as it came; what that answers, or 502."""
    try:
        with requests.Session() as session:
            # Neither a proxy nor the header of a .netrc file: the request is the platform's.
            session.trust_env = False
            session.headers.clear()
            with session.post(
                application,
                data=body,
                headers=dict(_without_connection(headers.items())),
                timeout=APPLICATION_SECONDS,
                allow_redirects=False,
                stream=True,
            ) as response:
                content = response.raw.read(ANSWER_LIMIT, decode_content=False)
    except requests.Timeout:
        return Answer(502, trouble=f"{application} did not answer in {APPLICATION_SECONDS:.0f} s")
    except (requests.RequestException, HTTPError, OSError):
        return Answer(502, trouble=f"{application} cannot be reached, or broke off")
    return Answer(response.status_code, tuple(_without_connection(response.raw.headers.items())), content)


def _without_connection(headers: Headers) -> Headers:
    return [(name, value) for name, value in headers if name.lower() not in _OF_CONNECTIONS]


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Deliveries come in bursts.
    request_queue_size = 128

    def __init__(self, listener: Listener, port: int) -> None:
        self.listener = listener
        super().__init__((HOST, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing where who posts has broken off: it posts again."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = READING_SECONDS

    def do_POST(self) -> None:
        """Take a webhook."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        length = _number(headers.get("content-length", ""))
        if length is None:
            self._answer(self.server.listener.refuse(headers, Answer(411), "It does not say how long it is."))
        elif length > BODY_LIMIT:
            self._answer(self.server.listener.refuse(headers, Answer(413), f"It has more than {BODY_LIMIT} bytes."))
        elif len(body := self.rfile.read(length)) == length:
            self._answer(self.server.listener.receive(headers, body))

    def _answer(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.status not in {204, 304}:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        """Nothing: what arrives is shown."""
