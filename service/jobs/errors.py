"""What can go wrong with jobs: errors of the API, and what a job type may raise."""

from __future__ import annotations

from service.errors import Conflict, NotFound, ValidationFailed


class JobNotFound(NotFound):
    """There is no such job."""

    code = "job_not_found"


class UnknownJobType(ValidationFailed):
    """There is no job type of this name."""

    code = "unknown_job_type"


class JobNotCancellable(Conflict):
    """The job has ended."""

    code = "job_not_cancellable"


class JobNotRetryable(Conflict):
    """Only a failed or cancelled job can be retried."""

    code = "job_not_retryable"


class PermanentError(Exception):
    """Raised by a job that must not be tried again; `code` is a stable word for machines."""

    def __init__(self, message: str, *, code: str = "permanent_error") -> None:
        super().__init__(message)
        self.code = code


class JobCancelled(Exception):
    """Raised inside a job by the next call of its context after somebody cancelled it."""


class LeaseLost(Exception):
    """Raised inside a job by the next call of its context after the job was given to another worker."""
