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


class JobNotDeletable(Conflict):
    """Only a job that has ended, and that no other job and no running workflow rests on, can be deleted."""

    code = "job_not_deletable"


class NotDeadLetter(Conflict):
    """The job is no dead letter: it has not failed, or was replayed or discarded."""

    code = "not_dead_letter"


class DuplicateJob(Conflict):
    """Another job holds this unique key."""

    code = "duplicate_job"

    def __init__(self, job_id: object | None = None) -> None:
        super().__init__(errors=None if job_id is None else {"jobId": [str(job_id)]})


class PermanentError(Exception):
    """Raised by a job that must not be tried again; `code` is a stable word for machines.

    Celery copies what a job raises: a subclass must be such that its class can be called with the message alone.
    """

    def __init__(self, message: str, *, code: str = "permanent_error") -> None:
        super().__init__(message)
        self.code = code


class RetryLater(Exception):
    """Raised by a job that wants its next attempt after so many seconds, whatever its retry strategy says."""

    def __init__(self, delay: float, message: str = "The job asked to be tried again later.") -> None:
        super().__init__(message)
        self.delay = delay


class JobMustEnd(BaseException):
    """Why the body of a job has to end; no Exception, so that an `except Exception` in a body does not swallow it."""


class JobCancelled(JobMustEnd):
    """Raised inside a job by the next call of its context after somebody cancelled it."""


class LeaseLost(JobMustEnd):
    """Raised inside a job by the next call of its context after the job was given to another worker."""


class WorkerStopping(JobMustEnd):
    """Raised inside a job, wherever it is, when its worker stops and the time to finish is up: it is queued again.

    A body that sees `ctx.stopping` may raise it itself, once it has kept what the next attempt can go on from.
    """
