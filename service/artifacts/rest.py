"""`/api/jobs/{id}/artifacts`."""

from __future__ import annotations

from uuid import UUID

import structlog
from flask import Response, g, request
from flask_smorest import Blueprint

from service.accounts.identity import current_identity
from service.artifacts.actions import delete_artifact
from service.artifacts.errors import ArtifactGone, RangeNotSatisfiable
from service.artifacts.headers import attachment, wanted_range
from service.artifacts.models import Artifact
from service.artifacts.queries import list_artifacts, visible_artifact
from service.artifacts.representation import artifact_json
from service.artifacts.schemas import ArtifactListSchema
from service.artifacts.storage import Contents, FileKey, storage
from service.errors import ServiceUnavailable
from service.web import ErrorSchema, error_json, json_answer

log = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS = 5
BINARY = {"type": "string", "format": "binary"}

blueprint = Blueprint("artifacts", __name__, url_prefix="/api/jobs", description="Files that jobs left")


@blueprint.route("/<uuid:job_id>/artifacts", methods=["GET"])
@blueprint.response(200, ArtifactListSchema)
def list_of_job(job_id: UUID) -> Response:
    """List the files that a job left."""
    found = list_artifacts(job_id, current_identity())
    return json_answer({"data": [artifact_json(artifact) for artifact in found]})


@blueprint.route("/<uuid:job_id>/artifacts/<uuid:artifact_id>", methods=["GET"])
@blueprint.response(200, BINARY, content_type="application/octet-stream", description="The file, of its own type")
@blueprint.alt_response(206, schema=BINARY, content_type="application/octet-stream", description="The bytes of `Range`")
@blueprint.alt_response(304, description="`If-None-Match` names the file's ETag")
@blueprint.alt_response(410, schema=ErrorSchema, description="It has expired, or its file is gone")
@blueprint.alt_response(416, schema=ErrorSchema, description="It has no such bytes")
def download(job_id: UUID, artifact_id: UUID) -> Response:
    """Download a file that a job left, or the part of it that `Range` asks for."""
    artifact = visible_artifact(job_id, artifact_id, current_identity())
    headers = {
        "Content-Type": artifact.content_type,
        "ETag": f'"{artifact.sha256}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": attachment(artifact.name),
    }
    if request.if_none_match.contains_weak(artifact.sha256):
        return Response(status=304, headers=headers)
    try:
        wanted = _wanted(artifact)
    except RangeNotSatisfiable as error:
        nothing = {"Content-Range": f"bytes */{artifact.size}", "Accept-Ranges": "bytes"}
        return json_answer(error_json(error, g.request_id), error.status, nothing)
    start, length = wanted or (0, artifact.size)
    if wanted is not None:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{artifact.size}"
    headers["Content-Length"] = str(length)
    contents = _opened(artifact, start, length)
    return Response(contents, 200 if wanted is None else 206, headers, direct_passthrough=True)


def _wanted(artifact: Artifact) -> tuple[int, int] | None:
    if_range = request.headers.get("If-Range")
    # Only GET knows parts, and a part of another file than this one is no use to whoever has the rest of that.
    if request.method != "GET" or (if_range is not None and if_range != f'"{artifact.sha256}"'):
        return None
    return wanted_range(request.headers.get("Range", ""), artifact.size)


def _opened(artifact: Artifact, start: int, length: int) -> Contents:
    key = FileKey(artifact.organization_id, artifact.job_id, artifact.id)
    try:
        file = storage().open(key)
    except FileNotFoundError:
        log.warning("artifact_gone", artifact_id=str(artifact.id))
        raise ArtifactGone from None
    except Exception as error:
        log.exception("storage_unavailable", artifact_id=str(artifact.id))
        raise ServiceUnavailable(retry_after=RETRY_AFTER_SECONDS) from error
    if file.size != artifact.size:
        log.warning("artifact_damaged", artifact_id=str(artifact.id), size=file.size)
        file.close()
        raise ArtifactGone
    return Contents(file, start, length)


@blueprint.route("/<uuid:job_id>/artifacts/<uuid:artifact_id>", methods=["DELETE"])
@blueprint.response(204)
def delete(job_id: UUID, artifact_id: UUID) -> None:
    """Delete a file that your job left."""
    delete_artifact(job_id, artifact_id, current_identity())
