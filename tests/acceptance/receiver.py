"""A webhook receiver: a real HTTP server on this machine that remembers what it was sent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.acceptance.waiting import until


@dataclass(frozen=True)
class Post:
    """A request that came in; header names in lower case."""

    headers: dict[str, str]
    body: bytes
    received_at: float = field(default_factory=time.time)

    @property
    def webhook_id(self) -> str:
        """What names the delivery over all its attempts."""
        return self.headers["webhook-id"]

    @property
    def document(self) -> dict[str, Any]:
        """The body as JSON."""
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    @property
    def type(self) -> str:
        """The type of the event."""
        return str(self.document["type"])

    @property
    def job_id(self) -> str:
        """The job it is about."""
        return str(self.document["data"]["id"])


class Receiver:
    """Answers each POST with what `answer` makes of it: an HTTP status."""

    def __init__(self, answer: Callable[[Post], int] = lambda post: 204) -> None:
        self._posts: list[Post] = []
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                post = Post({name.lower(): value for name, value in self.headers.items()}, body)
                with receiver._lock:
                    status = answer(post)
                    receiver._posts.append(post)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where to post to."""
        return f"http://127.0.0.1:{self._server.server_port}/hook"

    def posts(self, job_id: str | None = None, type_: str | None = None) -> list[Post]:
        """What came, in order: about this job, of this type."""
        with self._lock:
            posts = list(self._posts)
        return [
            post
            for post in posts
            if (job_id is None or job_id == post.job_id) and (type_ is None or type_ == post.type)
        ]

    def first(self, job_id: str, type_: str, seconds: float = 20.0) -> Post:
        """The first POST about a job of a type; waits for it."""
        __tracebackhide__ = True
        return until(
            lambda: self.posts(job_id, type_),
            lambda: f"a webhook {type_} of job {job_id}; came: {[(post.type, post.job_id) for post in self.posts()]}",
            seconds,
        )[0]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    # A burst of deliveries opens many connections at once.
    request_queue_size = 256
    daemon_threads = True
