"""Writes of artifacts: a job leaves one, its owner deletes one, files that belong to none are removed."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol, TypeVar
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select

from service.accounts.identity import Identity
from service.artifacts.descriptions import Description
from service.artifacts.errors import ArtifactTooLarge, StorageFull, TooManyArtifacts
from service.artifacts.models import Artifact, UnlistedFile
from service.artifacts.queries import own_artifact
from service.artifacts.sources import Source, chunks_of, content_type_of
from service.artifacts.storage import FileKey, storage
from service.audit.actions import record
from service.clock import utcnow
from service.database import after_commit, transaction
from service.events import JobRow
from service.ids import new_id
from service.jobs.errors import LeaseLost
from service.jobs.models import Job
from service.jobs.states import ACTIVE
from service.settings import current_settings

log = structlog.get_logger(__name__)

T = TypeVar("T")

DAY_SECONDS = 86400
# How long an attempt that was lost may still believe that it writes, before its file is removed.
UNFINISHED_KEPT = timedelta(hours=1)
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
BATCH = 500


class KeepTrying(Protocol):
    """Returns what a write to the database returns, tried again while the database is away."""

    def __call__(self, write: Callable[[], T], /) -> T: ...


class _Stored(NamedTuple):
    """What is known of a file once it is complete."""

    size: int
    sha256: str


def leave_artifact(
    job: JobRow,
    name: str,
    source: Source,
    *,
    content_type: str | None,
    expires_in: float | None,
    go_on: Callable[[], object],
    keep_trying: KeepTrying,
) -> Artifact:
    """Store a file of the attempt `job`, by its row; an artifact of this name that the attempt has left is replaced.

    `expires_in`: seconds; `go_on` is asked between chunks and raises what stops the attempt. Raises InvalidArtifact,
    ArtifactTooLarge, TooManyArtifacts, StorageFull, LeaseLost, and what reading the source raises; nothing is left of
    the file then.
    """
    about = Description(
        organization_id=UUID(str(job["organization_id"])),
        job_id=UUID(str(job["id"])),
        attempt=int(job["attempt"]),
        name=name,
        content_type=content_type or content_type_of(name, source),
        expires_in=current_settings().artifact_retention_days * DAY_SECONDS if expires_in is None else expires_in,
    )
    key = FileKey(about.organization_id, about.job_id, new_id())
    go_on()
    keep_trying(lambda: _announce(about, key))
    try:
        stored = _store(key, name, source, go_on)
        go_on()
        artifact, replaced = keep_trying(lambda: _enter(about, key, stored))
    except BaseException:
        _clear_away([key])
        raise
    _clear_away(replaced)
    return artifact


def _is_ours(about: Description) -> ColumnElement[bool]:
    """The fence: the row of the job while this attempt runs."""
    return and_(Job.id == about.job_id, Job.attempt == about.attempt, Job.status == ACTIVE)


def _announce(about: Description, key: FileKey) -> None:
    """Note the file that is to be written, so that it is found whatever happens."""
    limit = current_settings().max_artifacts_per_job
    with transaction() as session:
        if session.scalar(select(Job.id).where(_is_ours(about))) is None:
            raise LeaseLost
        others = select(func.count()).where(
            Artifact.job_id == about.job_id, Artifact.attempt == about.attempt, Artifact.name != about.name
        )
        if (session.scalar(others) or 0) >= limit:
            raise TooManyArtifacts(f"An attempt of a job may leave {limit} artifacts.")
        # Merged: a write whose commit was not answered is made again.
        session.merge(
            UnlistedFile(
                id=key.artifact_id,
                organization_id=key.organization_id,
                job_id=key.job_id,
                attempt=about.attempt,
                noted_at=utcnow(),
            )
        )


def _store(key: FileKey, name: str, source: Source, go_on: Callable[[], object]) -> _Stored:
    limit = current_settings().max_artifact_bytes
    digest = hashlib.sha256()
    size = 0
    try:
        with storage().writing(key) as file:
            for chunk in chunks_of(source):
                go_on()
                size += len(chunk)
                if size > limit:
                    raise ArtifactTooLarge(f"The artifact {name} is larger than {limit} bytes.")
                digest.update(chunk)
                file.write(chunk)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StorageFull from error
        raise
    return _Stored(size, digest.hexdigest())


def _enter(about: Description, key: FileKey, stored: _Stored) -> tuple[Artifact, Sequence[FileKey]]:
    """Write the row of a file that is complete; with it the keys of the files that it replaces."""
    artifact = about.artifact(key.artifact_id, **stored._asdict())
    with transaction() as session:
        # Held until the commit, so that the attempt is not given away before the row is there.
        if session.scalar(select(Job.id).where(_is_ours(about)).with_for_update(key_share=True)) is None:
            raise LeaseLost
        same_name = delete(Artifact).where(
            Artifact.job_id == about.job_id, Artifact.attempt == about.attempt, Artifact.name == about.name
        )
        replaced = session.scalars(same_name.returning(Artifact.id)).all()
        session.add(artifact)
        session.flush()
        session.execute(delete(UnlistedFile).where(UnlistedFile.id == artifact.id))
        # The job keeps it for longer than this session lives.
        session.expunge(artifact)
    return artifact, [key._replace(artifact_id=each) for each in replaced if each != artifact.id]


def delete_artifact(job_id: UUID, artifact_id: UUID, identity: Identity) -> None:
    """Delete one artifact and its file; raises what `own_artifact` raises."""
    with transaction() as session:
        artifact = own_artifact(job_id, artifact_id, identity)
        session.delete(artifact)
        record("artifact.delete", "artifact", artifact_id, {"jobId": str(job_id), "name": artifact.name})
        key = FileKey(artifact.organization_id, job_id, artifact_id)
        after_commit(lambda: _clear_away([key]))


def delete_expired() -> int:
    """Delete up to 500 artifacts whose time is up; how many. Their files are removed by `remove_unlisted`."""
    due = select(Artifact.id).where(Artifact.expires_at <= utcnow()).order_by(Artifact.expires_at).limit(BATCH)
    with transaction() as session:
        gone = delete(Artifact).where(Artifact.id.in_(due.with_for_update(skip_locked=True))).returning(Artifact.id)
        return len(session.scalars(gone).all())


def remove_unlisted(after: UUID) -> tuple[int, UUID | None]:
    """Remove up to 500 files that belong to no artifact, of ids above `after`.

    How many went, and the last id that was looked at: None where there are no more.
    """
    is_written = exists(
        select(Job.id).where(Job.id == UnlistedFile.job_id, Job.attempt == UnlistedFile.attempt, Job.status == ACTIVE)
    )
    is_left = and_(UnlistedFile.noted_at < utcnow() - UNFINISHED_KEPT, ~is_written)
    query = select(UnlistedFile.organization_id, UnlistedFile.job_id, UnlistedFile.id).where(
        UnlistedFile.id > after, or_(UnlistedFile.attempt.is_(None), is_left)
    )
    with transaction() as session:
        keys = [FileKey(*row) for row in session.execute(query.order_by(UnlistedFile.id).limit(BATCH))]
    return (_clear(keys), keys[-1].artifact_id) if keys else (0, None)


def _clear(keys: Sequence[FileKey]) -> int:
    """Remove files and forget them; how many went."""
    gone = [key.artifact_id for key in storage().remove(keys)]
    with transaction() as session:
        session.execute(delete(UnlistedFile).where(UnlistedFile.id.in_(gone)))
    return len(gone)


def _clear_away(keys: Sequence[FileKey]) -> None:
    """Remove files now if that can be done, else later: `remove_unlisted` finds them."""
    if not keys:
        return
    try:
        with transaction() as session:
            # What stopped the attempt may have struck when the row had just been written.
            session.execute(delete(Artifact).where(Artifact.id.in_([key.artifact_id for key in keys])))
        _clear(keys)
    except Exception:
        log.exception("files_left_for_later", job_id=str(keys[0].job_id), files=len(keys))
