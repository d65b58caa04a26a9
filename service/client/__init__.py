"""The Python client: submits jobs and hears how they go, over HTTP, with nothing of the server imported."""

from __future__ import annotations

from service.client.client import Carillon, log_in, log_out
from service.client.credentials import Credentials, Session, Tokens
from service.client.errors import (
    ClientError,
    Conflict,
    Invalid,
    JobCancelled,
    JobFailed,
    NoAnswer,
    NoStream,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    NotReached,
    RateLimited,
    RequestFailed,
    Unavailable,
    WaitedTooLong,
    WebhookNotVerified,
)
from service.client.events import Event, Gap
from service.client.watching import Update
from service.client.webhooks import verify_webhook

__all__ = [
    "Carillon",
    "ClientError",
    "Conflict",
    "Credentials",
    "Event",
    "Gap",
    "Invalid",
    "JobCancelled",
    "JobFailed",
    "NoAnswer",
    "NoStream",
    "NotAllowed",
    "NotAuthenticated",
    "NotFound",
    "NotReached",
    "RateLimited",
    "RequestFailed",
    "Session",
    "Tokens",
    "Unavailable",
    "Update",
    "WaitedTooLong",
    "WebhookNotVerified",
    "log_in",
    "log_out",
    "verify_webhook",
]
