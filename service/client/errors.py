"""What the client raises; the docstring is the message where the server gave none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Document = dict[str, Any]


class ClientError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        super().__init__(self.message)


class NotReached(ClientError):
    """The server cannot be reached.

    `was_sent`: the request may have arrived, so that what it asked for is perhaps done.
    """

    def __init__(self, message: str, *, was_sent: bool) -> None:
        super().__init__(message)
        self.was_sent = was_sent


class NoAnswer(NotReached):
    """The server did not answer in time."""

    def __init__(self, message: str) -> None:
        super().__init__(message, was_sent=True)


class RequestFailed(ClientError):
    """The server refused the request.

    `code` is a stable word, `status` the HTTP status, `errors` messages by field, `request_id` what the server's log
    calls the request, `retry_after` the seconds it asked to wait.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str,
        status: int,
        errors: Mapping[str, Sequence[str]] | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.errors = dict(errors or {})
        self.request_id = request_id
        self.retry_after = retry_after


class Invalid(RequestFailed):
    """The request is not valid."""


class NotAuthenticated(RequestFailed):
    """Authentication is needed."""


class NotAllowed(RequestFailed):
    """You are not allowed to do this."""


class NotFound(RequestFailed):
    """There is no such thing."""


class Conflict(RequestFailed):
    """This is in conflict with what exists."""


class RateLimited(RequestFailed):
    """Too many requests."""


class Unavailable(RequestFailed):
    """The server is away; try again shortly."""


CLASSES: dict[int, type[RequestFailed]] = {
    400: Invalid,
    401: NotAuthenticated,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


class JobFailed(ClientError):
    """The job failed; `job` is the job, `code` the stable word of its error."""

    def __init__(self, job: Document) -> None:
        error = job["error"] or {}
        super().__init__(error.get("message"))
        self.job = job
        self.code: str | None = error.get("code")


class JobCancelled(ClientError):
    """The job was cancelled."""

    def __init__(self, job: Document) -> None:
        super().__init__()
        self.job = job
        self.reason: str | None = job["cancelReason"]


class NoStream(ClientError):
    """The server, or something before it, gives no event stream at this address."""


class WaitedTooLong(ClientError, TimeoutError):
    """The job has not ended within the time; it goes on."""


class WebhookNotVerified(ClientError):
    """The webhook is not proved to be from who holds the secret."""
