"""`/api/libraries`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response
from flask_smorest import Blueprint

from service.accounts.identity import current_identity
from service.jobs.submission import Submission, submit_job
from service.libraries import queries
from service.libraries.actions import create_library, delete_library, update_library
from service.libraries.representation import item_json, library_json
from service.libraries.schemas import (
    ItemFilterSchema,
    ItemPageSchema,
    LibraryCreateSchema,
    LibraryPageSchema,
    LibrarySchema,
    LibraryUpdateSchema,
    ScanAnswerSchema,
)
from service.pagination import Page, PageArguments, paginate
from service.web import json_answer

blueprint = Blueprint(
    "libraries", __name__, url_prefix="/api/libraries", description="Register media libraries and scan them"
)


@blueprint.route("", methods=["GET"])
@blueprint.arguments(PageArguments, location="query")
@blueprint.response(200, LibraryPageSchema)
def list_libraries(arguments: dict[str, Any]) -> Response:
    """List your libraries by name; operators see those of their organization."""
    page = Page.taken_from(arguments)
    return json_answer(paginate(queries.visible_libraries(current_identity()), page, library_json))


@blueprint.route("", methods=["POST"])
@blueprint.arguments(LibraryCreateSchema)
@blueprint.response(201, LibrarySchema)
def create(body: dict[str, Any]) -> Response:
    """Register a folder of films and series."""
    library = create_library(current_identity(), **body)
    return json_answer(library_json(library), 201, {"Location": f"/api/libraries/{library.id}"})


@blueprint.route("/<uuid:library_id>", methods=["GET"])
@blueprint.response(200, LibrarySchema)
def get_library(library_id: UUID) -> Response:
    """Read a library."""
    return json_answer(library_json(queries.visible_library(library_id, current_identity())))


@blueprint.route("/<uuid:library_id>", methods=["PATCH"])
@blueprint.arguments(LibraryUpdateSchema)
@blueprint.response(200, LibrarySchema)
def update(body: dict[str, Any], library_id: UUID) -> Response:
    """Change the name, the folder or the scheduled scans of a library."""
    return json_answer(library_json(update_library(library_id, current_identity(), **body)))


@blueprint.route("/<uuid:library_id>", methods=["DELETE"])
@blueprint.response(204)
def delete(library_id: UUID) -> None:
    """Forget a library and its items; the files stay."""
    delete_library(library_id, current_identity())


@blueprint.route("/<uuid:library_id>/scan", methods=["POST"])
@blueprint.response(202, ScanAnswerSchema)
def scan(library_id: UUID) -> Response:
    """Queue a job that scans a library."""
    identity = current_identity()
    job = submit_job(
        Submission(type="library-scan", payload={"libraryId": str(library_id)}),
        organization_id=identity.organization_id,
        user_id=identity.user_id,
    ).row
    answer = {"jobId": str(job["id"]), "message": "Library scan job queued"}
    return json_answer(answer, 202, {"Location": f"/api/jobs/{job['id']}"})


@blueprint.route("/<uuid:library_id>/items", methods=["GET"])
@blueprint.arguments(ItemFilterSchema, location="query")
@blueprint.response(200, ItemPageSchema)
def list_items(arguments: dict[str, Any], library_id: UUID) -> Response:
    """List the video files of a library by title."""
    queries.visible_library(library_id, current_identity())
    page = Page.taken_from(arguments)
    return json_answer(paginate(queries.items(library_id, **arguments), page, item_json))
