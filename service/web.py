"""What every HTTP answer shares: the error shape, request ids, the API documents, the discovery of blueprints."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import marshmallow as ma
import structlog
from flask import Flask, Response, g, jsonify, redirect, request
from flask.json.provider import DefaultJSONProvider
from flask_cors import CORS
from flask_smorest import Api, Blueprint
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException, NotFound, RequestEntityTooLarge
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wrappers import Response as BaseResponse

from service.accounts.identity import authenticate_request, public
from service.bodies import ReadsChunks, check_body
from service.errors import (
    BodyTooLarge,
    CarillonError,
    MalformedRequest,
    ServiceUnavailable,
    ValidationFailed,
    flatten_messages,
)
from service.ids import new_id
from service.settings import Settings

log = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS = 2
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# What the page of the API documents needs, and nothing from elsewhere.
CONTENT_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'"
)
MAXIMUM_MESSAGES = 100
# What pages of other origins may send and read, where the settings name any.
ALLOWED_HEADERS = ["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-ID"]
EXPOSED_HEADERS = ["Idempotency-Replayed", "Location", "Retry-After", "X-Request-ID"]
PREFLIGHT_SECONDS = 600
ROOMS = Path(__file__).parent


class JsonProvider(DefaultJSONProvider):
    """Compact and in the order the code gives."""

    sort_keys = False
    compact = True
    ensure_ascii = False


class ErrorSchema(ma.Schema):
    """What every error answers."""

    code = ma.fields.String(required=True, metadata={"description": "A stable word"})
    message = ma.fields.String(required=True)
    status = ma.fields.Integer(required=True)
    errors = ma.fields.Dict(
        keys=ma.fields.String(),
        values=ma.fields.List(ma.fields.String()),
        metadata={"description": "Messages by field"},
    )
    requestId = ma.fields.String(required=True, allow_none=True)


class DocumentedApi(Api):  # type: ignore[misc]  # flask-smorest publishes no types
    """flask-smorest without its error answers: ours have one shape."""

    ERROR_SCHEMA = ErrorSchema

    def _register_error_handlers(self) -> None:
        pass


def configure_web(app: Flask, settings: Settings) -> None:
    """Error answers, authentication, API documents and every room's blueprint."""
    app.json = JsonProvider(app)
    app.config |= {
        "MAX_CONTENT_LENGTH": settings.max_body_bytes,
        "API_TITLE": "Carillon",
        "API_VERSION": "v1",
        "OPENAPI_VERSION": "3.0.3",
        "OPENAPI_URL_PREFIX": "/api",
        "OPENAPI_JSON_PATH": "openapi.json",
        "API_SPEC_OPTIONS": {
            "info": {"description": "Long-running jobs: submit, watch, be told, never lose one."},
            "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}},
            "security": [{"bearer": []}],
        },
    }
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    app.wsgi_app = ReadsChunks(app.wsgi_app)  # type: ignore[method-assign]  # Flask's documented place for middleware
    app.before_request(_name_request)
    app.before_request(authenticate_request)
    app.before_request(_check_query)
    app.before_request(check_body)
    app.after_request(_finish_answer)
    app.register_error_handler(CarillonError, _answer_error)
    app.register_error_handler(HTTPException, _answer_http_exception)
    app.register_error_handler(OperationalError, _answer_unavailable)
    app.register_error_handler(PoolTimeout, _answer_unavailable)
    app.register_error_handler(DBAPIError, _answer_database_error)
    app.register_error_handler(RedisError, _answer_unavailable)
    app.register_error_handler(Exception, _answer_unexpected)
    app.add_url_rule("/", "front_page", _front_page)
    if settings.cors_origins:
        CORS(
            app,
            origins=list(settings.cors_origins),
            allow_headers=ALLOWED_HEADERS,
            expose_headers=EXPOSED_HEADERS,
            max_age=PREFLIGHT_SECONDS,
        )
    api = DocumentedApi(app)
    for blueprint in _blueprints():
        api.register_blueprint(blueprint)


def _blueprints() -> list[Blueprint]:
    """The `blueprint` of each module of a room that is named `rest`, or `…_rest` where the room has several."""
    found = []
    for room in pkgutil.iter_modules([str(ROOMS)], "service."):
        if not room.ispkg:
            continue
        package = importlib.import_module(room.name)
        for module in pkgutil.iter_modules(package.__path__):
            if module.name == "rest" or module.name.endswith("_rest"):
                found.append(importlib.import_module(f"{room.name}.{module.name}").blueprint)
    return found


def error_json(error: CarillonError, request_id: str | None) -> dict[str, Any]:
    """The one error shape of REST and socket acknowledgements."""
    shape: dict[str, Any] = {"code": error.code, "message": error.message, "status": error.status}
    if error.errors:
        shape["errors"] = error.errors
    shape["requestId"] = request_id
    return shape


@public
def _front_page() -> BaseResponse:
    """Who opens the printed address finds the API documents."""
    return redirect("/api/docs")


def _name_request() -> None:
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if REQUEST_ID.fullmatch(given) else str(new_id())
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _check_query() -> None:
    if b"%00" in request.query_string or b"\0" in request.query_string or "\0" in request.path:
        raise ValidationFailed("Text may not hold the NUL character.")


def _finish_answer(response: Response) -> Response:
    response.headers["X-Request-ID"] = g.get("request_id", "")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers.setdefault("Content-Security-Policy", CONTENT_POLICY)
    if not request.path.startswith("/api/docs"):
        # Answers hold tokens, secrets and people's data.
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def _answer_error(error: CarillonError) -> Response:
    response = jsonify(error_json(error, g.get("request_id")))
    response.status_code = error.status
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _answer_http_exception(error: HTTPException) -> Response:
    if isinstance(error, RequestEntityTooLarge):
        return _answer_error(BodyTooLarge())
    status = error.code or 500
    data: Mapping[str, Any] = getattr(error, "data", None) or {}
    if status == 422:
        return _answer_error(ValidationFailed(errors=_of_all_locations(data.get("messages", {}))))
    if status == 400:
        return _answer_error(MalformedRequest("The body is not valid JSON."))
    there_is_none = isinstance(error, NotFound)
    message = "There is nothing at this address." if there_is_none else error.description or error.name
    response = jsonify(
        {
            "code": error.name.lower().replace(" ", "_"),
            "message": message,
            "status": status,
            "requestId": g.get("request_id"),
        }
    )
    response.status_code = status
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers[name] = value
    return response


def _of_all_locations(messages: Mapping[str, Any]) -> dict[str, list[str]]:
    """webargs groups messages by where the field stood (json, query); clients know their fields."""
    found = (item for location in messages.values() for item in flatten_messages(location).items())
    return dict(islice(found, MAXIMUM_MESSAGES))


def _answer_unavailable(error: Exception) -> Response:
    log.warning("dependency_unavailable", error=type(error).__name__, detail=str(error).splitlines()[0])
    return _answer_error(ServiceUnavailable(retry_after=RETRY_AFTER_SECONDS))


def _answer_database_error(error: DBAPIError) -> Response:
    if error.connection_invalidated:
        return _answer_unavailable(error)
    return _answer_unexpected(error)


def _answer_unexpected(error: Exception) -> Response:
    log.error("unexpected_error", exc_info=error)
    return _answer_error(CarillonError("Something went wrong on our side."))


def json_answer(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer of ready-made JSON, past marshmallow: for the routes on a job's way."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return Response(text, status, dict(headers or {}), mimetype="application/json")
