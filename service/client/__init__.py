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
)
from service.client.events import Event, Gap
from service.client.watching import Update

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
    "log_in",
    "log_out",
]
