"""Stand-ins on this machine for the services that carry messages; they speak the formats that those publish."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qsl

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Posted:
    """A POST that a stand-in got; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        """The fields of a form."""
        return dict(parse_qsl(self.body.decode()))

    @property
    def json(self) -> Any:
        """The JSON that was posted."""
        return json.loads(self.body)


@dataclass
class StandIn:
    """One service: its address, what it got, and answers that it gives first instead of its own."""

    url: str
    answer: Callable[[Posted, int], Answer]
    posts: list[Posted] = field(default_factory=list)
    faults: list[Answer] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    lock: Lock = field(default_factory=Lock)

    def take(self, posted: Posted) -> Answer:
        """Note a POST and answer it."""
        with self.lock:
            self.posts.append(posted)
            return self.faults.pop(0) if self.faults else self.answer(posted, next(self.numbers))


def answered(status: int, document: Any = None, **headers: str) -> Answer:
    """An answer in JSON."""
    content = b"" if document is None else json.dumps(document).encode()
    return status, {"Content-Type": "application/json", **headers}, content


@contextmanager
def _standing(answer: Callable[[Posted, int], Answer]) -> Iterator[StandIn]:
    class Handler(BaseHTTPRequestHandler):
        """Answers POST on kept connections."""

        protocol_version = "HTTP/1.1"
        # An answer of two pieces would wait for an acknowledgement in between.
        wbufsize = -1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, given, content = stand_in.take(Posted(self.path, headers, body))
            self.send_response(status)
            for name, value in given.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        stand_in = StandIn(f"http://127.0.0.1:{server.server_port}", answer)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield stand_in
        finally:
            server.shutdown()
            thread.join()


def twilio_error(status: int, code: int, message: str) -> Answer:
    """Twilio's error shape."""
    more = f"https://www.twilio.com/docs/errors/{code}"
    return answered(status, {"code": code, "message": message, "more_info": more, "status": status})


@contextmanager
def twilio(bad_numbers: tuple[str, ...] = ()) -> Iterator[StandIn]:
    """Twilio's Messages API; `bad_numbers` are answered with error 21211."""

    def answer(posted: Posted, number: int) -> Answer:
        to = posted.form.get("To", "")
        if to.removeprefix("whatsapp:") in bad_numbers:
            return twilio_error(400, 21211, f"The 'To' number {to} is not a valid phone number.")
        sid = f"SM{number:032x}"
        return answered(
            201,
            {
                "sid": sid,
                "status": "queued",
                "to": to,
                "from": posted.form.get("From"),
                "body": posted.form.get("Body"),
                "error_code": None,
                "error_message": None,
                "uri": f"{posted.path.removesuffix('.json')}/{sid}.json",
            },
        )

    with _standing(answer) as stand_in:
        yield stand_in


@contextmanager
def waha() -> Iterator[StandIn]:
    """A WAHA server."""

    def answer(posted: Posted, number: int) -> Answer:
        chat = posted.json["chatId"]
        message = {"id": f"true_{chat}_{number:020X}", "timestamp": 1666943582, "from": chat, "fromMe": True}
        return answered(201, {**message, "to": chat, "body": posted.json["text"], "hasMedia": False, "ack": 0})

    with _standing(answer) as stand_in:
        yield stand_in


def cloud_error(status: int, code: int, message: str) -> Answer:
    """The Cloud API's error shape."""
    error = {"message": f"(#{code}) {message}", "type": "OAuthException", "code": code, "fbtrace_id": "Az8or2yhqkZf"}
    return answered(status, {"error": {**error, "error_data": {"messaging_product": "whatsapp", "details": message}}})


@contextmanager
def cloud_api() -> Iterator[StandIn]:
    """Meta's Cloud API."""

    def answer(posted: Posted, number: int) -> Answer:
        to = posted.json["to"]
        contacts = [{"input": to, "wa_id": to}]
        messages = [{"id": f"wamid.HBgL{number:030d}"}]
        return answered(200, {"messaging_product": "whatsapp", "contacts": contacts, "messages": messages})

    with _standing(answer) as stand_in:
        yield stand_in


@contextmanager
def push_service() -> Iterator[StandIn]:
    """A push service as browsers name them (RFC 8030)."""
    with _standing(lambda posted, number: answered(201, None, Location=f"/message/{number}")) as stand_in:
        yield stand_in


@contextmanager
def ntfy() -> Iterator[StandIn]:
    """An ntfy server."""
    with _standing(lambda posted, number: answered(200, {"id": f"n{number}", "event": "message"})) as stand_in:
        yield stand_in
