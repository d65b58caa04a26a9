"""Requests that arrive: tried again where that does no harm, with tokens that are renewed, never without a timeout."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, cast
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.response import HTTPResponse

from service.client.credentials import Credentials
from service.client.errors import (
    CLASSES,
    NoAnswer,
    NoStream,
    NotAuthenticated,
    NotReached,
    RateLimited,
    RequestFailed,
    Unavailable,
)
from service.client.sse import Message, Parser

CONNECT_SECONDS = 5.0
# The server sends a comment every 15 s: after two that did not come it is gone.
SILENCE_SECONDS = 35.0
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
PIECE_BYTES = 65_536
MAXIMUM_CONNECTIONS = 64
NO_STREAM_STATUSES = frozenset({404, 405, 406, 501})


@dataclass(frozen=True)
class Request:
    """Something to ask of the server.

    `repeatable`: to ask twice does no harm. `ends`: when (time.monotonic) the answer is of no use any more.
    """

    method: str
    path: str
    body: Any = None
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    streams: bool = False
    ends: float | None = None

    def read_seconds(self, usual: float) -> float:
        """How long to wait for the next bytes."""
        wanted = SILENCE_SECONDS if self.streams else usual
        return wanted if self.ends is None else max(min(wanted, self.ends - time.monotonic()), 0.05)


class _Bearer(AuthBase):
    """Sets the token, or nothing; without it, requests would send what a .netrc file says of the host."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Transport:
    """One server, in the name of one user; may be used from several threads.

    `timeout` is how many seconds an answer may take, `patience` for how long a server that is away is tried again.
    """

    def __init__(self, url: str, credentials: Credentials, *, timeout: float, patience: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"This is not the address of a server: {url}")
        self.url = url.rstrip("/")
        self._credentials = credentials
        self._timeout = timeout
        self._patience = patience
        self._http = requests.Session()
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=MAXIMUM_CONNECTIONS)
        self._http.mount("http://", adapter)
        self._http.mount("https://", adapter)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """The JSON of an answer, None where it has none; `more` as for Request. Raises RequestFailed or NotReached."""
        return _document(self._send(Request(method, path, body, **more)))

    def ask_openly(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON of the answer to a POST without authentication."""
        # Also a refresh is repeated: if the first one arrived, its session is lost either way.
        return cast("dict[str, Any]", _document(self._send(Request("POST", path, body), openly=True)))

    def stream(self, path: str, *, last_event_id: str | None = None, ends: float | None = None) -> Stream:
        """An open event stream; raises NoStream, RequestFailed or NotReached."""
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Cache-Control": "no-store"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        try:
            response = self._send(Request("GET", path, headers=headers, streams=True, ends=ends))
        except RequestFailed as error:
            if error.status in NO_STREAM_STATUSES:
                raise NoStream from error
            raise
        except NoAnswer as error:
            # Something on the way waits for the end of what has none.
            raise NoStream from error
        if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
            response.close()
            raise NoStream
        return Stream(response, ends)

    def _send(self, request: Request, *, openly: bool = False) -> requests.Response:
        ends = time.monotonic() + self._patience
        if request.ends is not None:
            ends = min(ends, request.ends)
        pauses = Pauses()
        while True:
            try:
                return self._exchange(request, None) if openly else self._authenticated(request)
            except (NotReached, Unavailable, RateLimited) as error:
                asked = getattr(error, "retry_after", None)
                pause = pauses.next() if asked is None else asked
                if not _may_repeat(request, error) or time.monotonic() + pause > ends:
                    raise
            time.sleep(pause)

    def _authenticated(self, request: Request) -> requests.Response:
        token = self._credentials.token(self.ask_openly)
        try:
            return self._exchange(request, token)
        except NotAuthenticated:
            renewed = self._credentials.renewed(token, self.ask_openly)
            if renewed is None:
                raise
        return self._exchange(request, renewed)

    def _exchange(self, request: Request, token: str | None) -> requests.Response:
        try:
            response = self._http.request(
                request.method,
                self.url + request.path,
                json=request.body,
                params={name: value for name, value in request.params.items() if value is not None},
                headers=dict(request.headers),
                auth=_Bearer(token),
                timeout=(CONNECT_SECONDS, request.read_seconds(self._timeout)),
                # It would make a GET of a POST, and carry the token elsewhere.
                allow_redirects=False,
                stream=request.streams,
            )
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise _not_reached(self.url, error) from error
        if not response.ok or response.is_redirect:
            raise _refusal(response)
        return response


class Stream:
    """The messages of an open event stream, until it ends or breaks off; it is closed at the time `ends`."""

    def __init__(self, response: requests.Response, ends: float | None) -> None:
        self._response = response
        self._raw: HTTPResponse = response.raw
        self._parser = Parser()
        self._timer = None if ends is None else threading.Timer(max(ends - time.monotonic(), 0), self._interrupt)

    @property
    def last_id(self) -> str | None:
        """The newest number that the stream has named."""
        return self._parser.last_id

    def __enter__(self) -> Self:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._response.close()

    def __iter__(self) -> Iterator[Message]:
        # However it breaks off: whoever reads connects again.
        with contextlib.suppress(HTTPError, OSError):
            # Unlike `iter_content`, it gives what is there at once, however the answer is sent.
            while piece := self._raw.read1(PIECE_BYTES):
                yield from self._parser.feed(piece)

    def _interrupt(self) -> None:
        # The read that waits sees the end of the stream. It may have come to one by itself meanwhile.
        with contextlib.suppress(ValueError, RuntimeError, OSError):
            self._raw.shutdown()


class Pauses:
    """How long to wait before the next try: longer each time, and never the same for everybody."""

    def __init__(self) -> None:
        self._seconds = FIRST_PAUSE_SECONDS

    def next(self) -> float:
        """Seconds."""
        seconds = self._seconds
        self._seconds = min(seconds * 2, LONGEST_PAUSE_SECONDS)
        return seconds * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin again with a short one."""
        self._seconds = FIRST_PAUSE_SECONDS


def _may_repeat(request: Request, error: NotReached | RequestFailed) -> bool:
    if request.streams and isinstance(error, NoAnswer):
        return False
    never_done = isinstance(error, RateLimited) or (isinstance(error, NotReached) and not error.was_sent)
    return request.repeatable or never_done


def _document(response: requests.Response) -> Any:
    if not response.content:
        return None
    try:
        return response.json()
    except requests.exceptions.JSONDecodeError:
        raise _unexpected(response) from None


def _refusal(response: requests.Response) -> RequestFailed:
    """The error that an answer tells of."""
    try:
        said = response.json()
        code, message = said["code"], said["message"]
    except (ValueError, TypeError, KeyError, requests.RequestException):
        return _unexpected(response)
    return CLASSES.get(response.status_code, RequestFailed)(
        message,
        code=code,
        status=response.status_code,
        errors=said.get("errors"),
        request_id=said.get("requestId"),
        retry_after=_seconds(response.headers.get("Retry-After")),
    )


def _unexpected(response: requests.Response) -> RequestFailed:
    """An answer that no Carillon server gives: some other program is there, or stands before it."""
    elsewhere = response.headers.get("Location")
    message = (
        f"The server is not there but at {elsewhere}" if elsewhere else f"No Carillon server answers at {response.url}"
    )
    return CLASSES.get(response.status_code, RequestFailed)(
        f"{message} (HTTP status {response.status_code}).",
        code="unexpected_answer",
        status=response.status_code,
        retry_after=_seconds(response.headers.get("Retry-After")),
    )


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None


def _not_reached(url: str, error: requests.RequestException) -> NotReached:
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError):
        return NotReached(f"The server at {url} cannot be reached.", was_sent=False)
    if isinstance(error, requests.Timeout):
        return NoAnswer(f"The server at {url} did not answer in time.")
    return NotReached(f"The server at {url} broke the connection off.", was_sent=True)
