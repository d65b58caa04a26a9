"""`/api/health` and the page of the API documents."""

from __future__ import annotations

from flask import Response, send_from_directory
from flask_smorest import Blueprint
from swagger_ui_bundle import swagger_ui_path

from service.accounts.identity import public
from service.operations import queries
from service.operations.schemas import HealthSchema, JobsHealthSchema, LiveSchema, WebsocketHealthSchema
from service.web import json_answer

blueprint = Blueprint("operations", __name__, url_prefix="/api", description="How the platform is")


@blueprint.route("/health/live", methods=["GET"])
@blueprint.response(200, LiveSchema)
@blueprint.doc(security=[])
@public
def live() -> Response:
    """Answer as long as the process does."""
    return json_answer({"status": "alive"})


@blueprint.route("/health", methods=["GET"])
@blueprint.response(200, HealthSchema)
@blueprint.alt_response(503, schema=HealthSchema)
@blueprint.doc(security=[])
@public
def health() -> Response:
    """Tell whether database, Redis and workers answer."""
    answer = queries.health()
    return json_answer(answer, 200 if answer["status"] == "healthy" else 503)


@blueprint.route("/health/jobs", methods=["GET"])
@blueprint.response(200, JobsHealthSchema)
@blueprint.doc(security=[])
@public
def jobs_health() -> Response:
    """Count what waits, runs and has failed."""
    return json_answer(queries.jobs_health())


@blueprint.route("/health/websocket", methods=["GET"])
@blueprint.response(200, WebsocketHealthSchema)
@blueprint.doc(security=[])
@public
def websocket_health() -> Response:
    """Count the sockets of this web process."""
    return json_answer(queries.websocket_health())


DOCS_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Carillon API</title>
<link rel="stylesheet" href="/api/docs/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="/api/docs/swagger-ui-bundle.js"></script>
<script src="/api/docs/start.js"></script>
</body>
</html>
"""

DOCS_SCRIPT = "SwaggerUIBundle({url: '/api/openapi.json', dom_id: '#docs', deepLinking: true, tagsSorter: 'alpha'});"


@blueprint.route("/docs", methods=["GET"])
@blueprint.doc(security=[])
@public
def docs() -> Response:
    """Browse this API."""
    return Response(DOCS_PAGE, mimetype="text/html")


@blueprint.route("/docs/start.js", methods=["GET"])
@blueprint.doc(security=[])
@public
def docs_script() -> Response:
    """Start the page of the API documents."""
    return Response(DOCS_SCRIPT, mimetype="text/javascript")


@blueprint.route("/docs/<path:name>", methods=["GET"])
@blueprint.doc(security=[])
@public
def docs_file(name: str) -> Response:
    """Serve a file of the page of the API documents."""
    return send_from_directory(swagger_ui_path, name)
