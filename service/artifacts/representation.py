"""An artifact as the contract writes it in JSON."""

from __future__ import annotations

from typing import Any

from service.artifacts.models import Artifact
from service.clock import isoformat


def artifact_json(artifact: Artifact) -> dict[str, Any]:
    """The artifact, with the path of its bytes."""
    return {
        "id": str(artifact.id),
        "name": artifact.name,
        "attempt": artifact.attempt,
        "contentType": artifact.content_type,
        "size": artifact.size,
        "sha256": artifact.sha256,
        "createdAt": isoformat(artifact.created_at),
        "expiresAt": isoformat(artifact.expires_at),
        "downloadUrl": f"/api/jobs/{artifact.job_id}/artifacts/{artifact.id}",
    }
