"""`Carillon`: the verbs of the client."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote
from uuid import uuid4

from service.client.credentials import Credentials, FixedToken, Login, Session, Tokens
from service.client.errors import Document, JobCancelled, JobFailed
from service.client.events import Event, Gap, follow
from service.client.transport import Transport
from service.client.watching import FINAL, Update, job_path, watch

PAGE_LIMIT = 100
LOG_SECONDS = 0.5


class Carillon:
    """A server, in the name of one user; may be used from several threads, and as a context manager.

    Give a `token`, `username` and `password`, or `credentials` of your own. `timeout` is how many seconds an answer may
    take, `patience` for how many a server that cannot be reached, is away (503) or asks to wait (429) is tried again.
    Jobs and notifications are dictionaries in the words of the API. Whatever is asked may raise RequestFailed, of which
    there is a class for each kind of refusal, or NotReached.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        username: str | None = None,
        password: str | None = None,
        credentials: Credentials | None = None,
        timeout: float = 30.0,
        patience: float = 30.0,
    ) -> None:
        self._transport = Transport(
            url, _credentials(token, username, password, credentials), timeout=timeout, patience=patience
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    @property
    def url(self) -> str:
        """The server's address."""
        return self._transport.url

    def submit(
        self,
        type: str,
        payload: dict[str, Any] | None = None,
        *,
        name: str | None = None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Document:
        """Submit a job; the job.

        `options` are the API's, as `retry_limit=3` or `retryLimit=3`. However often the connection breaks, the job is
        submitted once; with an `idempotency_key` of your own also when your program starts anew.
        """
        body = {"type": type, "payload": payload or {}, "options": _options(options)}
        if name is not None:
            body["name"] = name
        job: Document = self._transport.ask(
            "POST", "/api/jobs", body, headers={"Idempotency-Key": idempotency_key or str(uuid4())}
        )
        return job

    def job(self, job_id: str) -> Document:
        """A job as it is now."""
        job: Document = self._transport.ask("GET", job_path(job_id))
        return job

    def jobs(self, *, limit: int | None = None, **filters: Any) -> Iterator[Document]:
        """Your jobs, newest first, all or `limit` of them; `filters`: status, type, tag, queue, since, until, q."""
        return self._pages("/api/jobs", filters, limit)

    def cancel(self, job_id: str, reason: str | None = None) -> Document:
        """Cancel a job; one that runs is still `active` in the answer and ends as soon as it notices."""
        job: Document = self._transport.ask("DELETE", job_path(job_id), {"reason": reason}, repeatable=False)
        return job

    def retry(self, job_id: str) -> Document:
        """Run a failed or cancelled job again."""
        job: Document = self._transport.ask("POST", job_path(job_id, "/retry"), repeatable=False)
        return job

    def logs(self, job_id: str, *, follow: bool = False) -> Iterator[Document]:
        """What a job logged, first to last; with `follow` also what it logs until it ends."""
        cursor: str | None = None
        while True:
            # Read before the lines: those of a job that has ended are all there.
            has_ended = not follow or self.job(job_id)["status"] in FINAL
            for line in self._pages(job_path(job_id, "/logs"), {"cursor": cursor}):
                cursor = line["id"]
                yield line
            if has_ended:
                return
            time.sleep(LOG_SECONDS)

    def watch(self, job_id: str) -> Iterator[Update]:
        """What changes about a job, status and progress; first how it is now, last how it ended."""
        return watch(self._transport, job_id)

    def wait(self, job_id: str, timeout: float | None = None) -> Any:
        """The result of a job, once it has completed.

        Raises JobFailed, JobCancelled, or WaitedTooLong after `timeout` seconds.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        [last] = deque(watch(self._transport, job_id, ends), maxlen=1)
        if last.status == "failed":
            raise JobFailed(last.job)
        if last.status == "cancelled":
            raise JobCancelled(last.job)
        return last.job["result"]

    def events(self, last_event_id: str | None = None) -> Iterator[Event | Gap]:
        """All your events, without end, from now on or after the one that is named.

        Lost connections are made anew and what was missed comes first; a Gap says where something is missing for good.
        """
        return follow(self._transport, "/api/events", last_event_id)

    def notifications(self, *, limit: int | None = None, **filters: Any) -> Iterator[Document]:
        """Your inbox, newest first, all or `limit` of it; `filters`: unread, type."""
        return self._pages("/api/notifications", filters, limit)

    def mark_read(self, notification_id: str) -> Document:
        """Mark a notification read: `{id, read, readAt}`."""
        answer: Document = self._transport.ask("PATCH", f"/api/notifications/{notification_id}/read")
        return answer

    def mark_all_read(self) -> int:
        """Mark everything read; how many were not."""
        return int(self._transport.ask("PATCH", "/api/notifications/read-all")["count"])

    def unread_count(self) -> int:
        """How many notifications you have not read."""
        return int(self._transport.ask("GET", "/api/notifications", params={"limit": 1})["unreadCount"])

    def webhooks(self) -> list[Document]:
        """Your newest 100 endpoints."""
        page = self._transport.ask("GET", "/api/webhooks", params={"limit": PAGE_LIMIT})
        webhooks: list[Document] = page["data"]
        return webhooks

    def create_webhook(self, url: str, event_type: str = "all", **fields: Any) -> Document:
        """Make an endpoint that is told by HTTP; with its `secret`, which is for `verify_webhook` where it arrives.

        `fields` are the API's, as `payload_format="flat"` or `payloadFormat="flat"`.
        """
        body = {"url": url, "eventType": event_type, **_options(fields)}
        webhook: Document = self._transport.ask("POST", "/api/webhooks", body, repeatable=False)
        return webhook

    def delete_webhook(self, webhook_id: str) -> None:
        """Delete an endpoint, and what was still to be sent to it."""
        self._transport.ask("DELETE", f"/api/webhooks/{quote(webhook_id, safe='')}")

    def _pages(self, path: str, filters: dict[str, Any], limit: int | None = None) -> Iterator[Document]:
        """The rows of a long list, page after page."""
        left = limit
        params = {name: _said(value) for name, value in filters.items()}
        while left is None or left > 0:
            size = PAGE_LIMIT if left is None else min(left, PAGE_LIMIT)
            answer = self._transport.ask("GET", path, params={**params, "limit": size})
            yield from answer["data"]
            cursor = answer["pagination"]["nextCursor"]
            if cursor is None:
                return
            params["cursor"] = cursor
            left = None if left is None else left - size


def log_in(url: str, username: str, password: str) -> Tokens:
    """The tokens of a new session, to be kept by who asks; raises NotAuthenticated, RateLimited or NotReached."""
    with closing(_without_credentials(url)) as transport:
        return Login(username, password).open(transport.ask_openly)


def log_out(url: str, tokens: Tokens) -> None:
    """End a session."""
    with closing(_without_credentials(url)) as transport:
        transport.ask_openly("/api/auth/logout", {"refreshToken": tokens.refresh})


def _without_credentials(url: str) -> Transport:
    return Transport(url, Session(), timeout=30.0, patience=5.0)


def _credentials(
    token: str | None, username: str | None, password: str | None, credentials: Credentials | None
) -> Credentials:
    if credentials is not None:
        return credentials
    if token is not None:
        return FixedToken(token)
    if username is not None and password is not None:
        return Login(username, password)
    raise ValueError("Give a token, username and password, or credentials.")


def _options(options: dict[str, Any]) -> dict[str, Any]:
    return {_camel(name): _said(value) for name, value in options.items()}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)


def _said(value: Any) -> Any:
    """A value as JSON and query strings say it."""
    if isinstance(value, datetime):
        return value.isoformat()
    return value
