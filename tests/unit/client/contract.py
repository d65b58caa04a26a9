"""A small HTTP server that speaks the contract as each test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request that came in; header names in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Reply:
    """An answer in JSON, or one that never comes: the connection is cut once the request was read."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    is_cut: bool = False


@dataclass(frozen=True)
class Stream:
    """An event stream: the pieces, then its end; `is_cut`: in the middle; `held`: kept open until it is set."""

    pieces: Iterable[str] = ()
    is_cut: bool = False
    held: threading.Event | None = None
    chunked: bool = True


CUT = Reply(is_cut=True)

Answer = Reply | Stream | Callable[[Asked], "Reply | Stream"]


def refusal(status: int, code: str, message: str = "No.", errors: Any = None, **headers: str) -> Reply:
    """An error in the contract's one shape."""
    body = {"code": code, "message": message, "status": status, "requestId": "request-1"}
    if errors:
        body["errors"] = errors
    return Reply(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def sse(event: str, data: Any, id: str | None = None) -> str:
    """A message as the server writes one."""
    number = f"id: {id}\n" if id else ""
    return f"{number}event: {event}\ndata: {json.dumps(data)}\n\n"


def a_job(status: str = "queued", **more: Any) -> dict[str, Any]:
    """A job as the API shows one."""
    return {
        "id": "job-1",
        "type": "demo-steps",
        "name": "Demo steps",
        "status": status,
        "attempt": 1,
        "maxAttempts": 4,
        "progress": None,
        "result": None,
        "error": None,
        "cancelReason": None,
        **more,
    }


def progress(percentage: float) -> dict[str, Any]:
    """How far a job has come."""
    return {"current": percentage, "total": 100, "percentage": percentage}


class ContractServer:
    """Answers as scripted: each (method, path) has its answers in turn, the last one for ever."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._scripts: dict[tuple[str, str], list[Answer]] = {}
        self._lock = threading.Lock()
        contract = self

        class Handler(_Handler):
            server_of_test = contract

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def script(self, method: str, path: str, *answers: Answer) -> None:
        """What to answer."""
        self._scripts[method, path] = list(answers)

    def requests(self, method: str, path: str) -> list[Asked]:
        """What was asked there, in order."""
        with self._lock:
            return [each for each in self.asked if (each.method, each.path) == (method, path)]

    def answer_to(self, asked: Asked) -> Reply | Stream:
        """The answer whose turn it is."""
        with self._lock:
            self.asked.append(asked)
            answers = self._scripts.get((asked.method, asked.path))
            if not answers:
                return refusal(404, "not_found", "There is nothing at this address.")
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer if isinstance(answer, (Reply, Stream)) else answer(asked)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Or the last piece of a stream would wait for an acknowledgement.
    disable_nagle_algorithm = True
    server_of_test: ContractServer

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        parts = urlsplit(self.path)
        asked = Asked(
            self.command,
            parts.path,
            {name: values[0] for name, values in parse_qs(parts.query).items()},
            {name.lower(): value for name, value in self.headers.items()},
            json.loads(self.rfile.read(length)) if length else None,
        )
        answer = self.server_of_test.answer_to(asked)
        with suppress(OSError):
            if isinstance(answer, Stream):
                self._send_stream(answer)
            elif answer.is_cut:
                self._cut()
            else:
                self._send(answer)

    do_GET = do_POST = do_PATCH = do_DELETE = _serve

    def _send(self, reply: Reply) -> None:
        text = b"" if reply.body is None else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(text)), **reply.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def _send_stream(self, stream: Stream) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header(*(("Transfer-Encoding", "chunked") if stream.chunked else ("Connection", "close")))
        self.end_headers()
        for piece in stream.pieces:
            data = piece.encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if stream.chunked else data)
            self.wfile.flush()
        if stream.held is not None:
            stream.held.wait(20)
        if stream.is_cut:
            self._cut()
        elif stream.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _cut(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        pass
