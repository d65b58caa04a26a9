"""Reads of artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select

from service.accounts.identity import Identity
from service.artifacts.errors import ArtifactExpired, ArtifactNotFound
from service.artifacts.models import Artifact
from service.clock import utcnow
from service.database import db
from service.errors import NotAllowed
from service.events import JobRow
from service.jobs.queries import visible_job


def list_artifacts(job_id: UUID, identity: Identity) -> Sequence[Artifact]:
    """What a job has left and is still kept, first to last; raises as `visible_artifact` does."""
    _readable_job(job_id, identity)
    query = select(Artifact).where(Artifact.job_id == job_id, Artifact.expires_at > utcnow())
    return db.session.scalars(query.order_by(Artifact.id)).all()


def visible_artifact(job_id: UUID, artifact_id: UUID, identity: Identity) -> Artifact:
    """An artifact that somebody may read.

    Raises JobNotFound and NotAllowed as for its job, ArtifactNotFound, and ArtifactExpired.
    """
    _readable_job(job_id, identity)
    artifact = _of_job(job_id, artifact_id)
    if artifact.expires_at <= utcnow():
        raise ArtifactExpired
    return artifact


def own_artifact(job_id: UUID, artifact_id: UUID, identity: Identity) -> Artifact:
    """An artifact of a user's own job; raises JobNotFound, NotAllowed and ArtifactNotFound."""
    if _readable_job(job_id, identity)["user_id"] != identity.user_id:
        raise NotAllowed
    return _of_job(job_id, artifact_id)


def _readable_job(job_id: UUID, identity: Identity) -> JobRow:
    job = visible_job(job_id, identity)
    # What a sensitive job makes is told to nobody but its owner, by whatever name.
    if job["sensitive"] and job["user_id"] != identity.user_id:
        raise NotAllowed
    return job


def _of_job(job_id: UUID, artifact_id: UUID) -> Artifact:
    artifact = db.session.get(Artifact, artifact_id)
    if artifact is None or artifact.job_id != job_id:
        raise ArtifactNotFound
    return artifact
