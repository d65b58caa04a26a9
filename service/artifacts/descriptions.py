"""What is known of an artifact before there is a file, and how it becomes one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from service.artifacts.errors import InvalidArtifact
from service.artifacts.models import Artifact
from service.clock import utcnow

MAXIMUM_NAME_LENGTH = 255
MAXIMUM_LIFE_SECONDS = 10 * 365 * 86400
# Of RFC 9110, without what nobody uses.
CONTENT_TYPE = re.compile(
    r"[A-Za-z0-9!#$&^_.+-]{1,63}/[A-Za-z0-9!#$&^_.+-]{1,63}(; ?[a-z]{1,20}=[A-Za-z0-9_.-]{1,40})?"
)


@dataclass(frozen=True, kw_only=True)
class Description:
    """An artifact to be of an attempt of a job; raises InvalidArtifact for what no artifact can be."""

    organization_id: UUID
    job_id: UUID
    attempt: int
    name: str
    content_type: str
    # Seconds.
    expires_in: float

    def __post_init__(self) -> None:
        # Halves of characters, controls and line breaks are not printable.
        if not self.name.strip() or len(self.name) > MAXIMUM_NAME_LENGTH or not self.name.isprintable():
            raise InvalidArtifact(f"A name has 1 to {MAXIMUM_NAME_LENGTH} printable characters.")
        if not CONTENT_TYPE.fullmatch(self.content_type):
            raise InvalidArtifact(f"{self.content_type!r} is no content type.")
        if not 0 < self.expires_in <= MAXIMUM_LIFE_SECONDS:
            raise InvalidArtifact("expires_in is more than nought and at most ten years, in seconds.")

    def artifact(self, artifact_id: UUID, *, size: int, sha256: str) -> Artifact:
        """The artifact, now that its file is complete."""
        now = utcnow()
        return Artifact(
            id=artifact_id,
            organization_id=self.organization_id,
            job_id=self.job_id,
            attempt=self.attempt,
            name=self.name,
            content_type=self.content_type,
            size=size,
            sha256=sha256,
            created_at=now,
            expires_at=now + timedelta(seconds=self.expires_in),
        )
