"""What can go wrong with artifacts: errors of the API, and what a job gets to see that leaves one."""

from __future__ import annotations

from service.errors import CarillonError, NotFound
from service.jobs.errors import PermanentError


class ArtifactNotFound(NotFound):
    """The job has no such artifact."""

    code = "artifact_not_found"


class ArtifactExpired(CarillonError):
    """The artifact was kept for as long as its job asked."""

    code, status = "artifact_expired", 410


class ArtifactGone(CarillonError):
    """The artifact's file is gone from its storage."""

    code, status = "artifact_gone", 410


class RangeNotSatisfiable(CarillonError):
    """The artifact has no such bytes."""

    code, status = "range_not_satisfiable", 416


# What follows is raised in jobs. Celery copies such exceptions: each can be made of its message alone.


class InvalidArtifact(PermanentError):
    """A name, content type, life or source that no artifact can have."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="invalid_artifact")


class ArtifactTooLarge(PermanentError):
    """A file larger than MAX_ARTIFACT_BYTES."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="artifact_too_large")


class TooManyArtifacts(PermanentError):
    """More files than MAX_ARTIFACTS_PER_JOB."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="too_many_artifacts")


class StorageFull(Exception):
    """The storage of artifacts has no room left."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
