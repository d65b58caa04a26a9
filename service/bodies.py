"""The bodies of requests: what is read of them, and what is refused before anybody looks inside."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import TYPE_CHECKING, Any

from flask import request

from service.errors import BodyTooLarge, MalformedRequest, ValidationFailed, WrongContentType
from service.text import is_storable_json, levels

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Deeper than any real payload; the parser itself would give up near a thousand, with a RecursionError.
MAXIMUM_DEPTH = 64
# A batch of a thousand jobs with fifty values each fits.
MAXIMUM_VALUES = 60_000
# Where a mail program posts the form that RFC 8058 prescribes.
FORM_PATH = "/api/notifications/unsubscribe"
# What anybody may send without an account.
ACCOUNT_PATHS = ("/api/auth/", FORM_PATH)
ACCOUNT_BODY_BYTES = 16_384


class ReadsChunks:
    """Lets a body be read that comes in chunks, without a length told.

    Werkzeug takes such a body for empty unless the server says that it ends the stream itself, which both servers do
    and eventlet's does not say.
    """

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked":
            environ["wsgi.input_terminated"] = True
        return self._application(environ, start_response)


def check_body() -> None:
    """Before each request: refuses a body that is too large, of another type, malformed, too deep or not storable."""
    if request.method not in {"POST", "PUT", "PATCH", "DELETE"}:
        return
    limit = request.max_content_length or 0
    if request.path.startswith(ACCOUNT_PATHS):
        limit = min(limit, ACCOUNT_BODY_BYTES)
    if (request.content_length or 0) > limit:
        raise BodyTooLarge
    body = request.get_data()
    # A body whose length was not told is read up to the limit and cut there.
    if request.content_length is None and len(body) >= limit:
        raise BodyTooLarge
    if not body or request.path == FORM_PATH:
        return
    if not request.is_json:
        raise WrongContentType
    try:
        document = request.get_json()
    except RecursionError:
        raise MalformedRequest("The JSON is nested too deeply.") from None
    _measure(document)
    # Only an escape can bring in what cannot be stored.
    if b"\\u" in body and not is_storable_json(document):
        raise ValidationFailed("Text may not hold the NUL character or half of a character.")


def _measure(document: Any) -> None:
    """Refuse (MalformedRequest) what is too deep, or has so many values that checking each would hold up everybody.

    And (ValidationFailed) numbers that Python reads and JSON does not have: `NaN`, and what is larger than any float.
    """
    # The document itself is neither a level nor a value.
    count = -1
    for depth, level in enumerate(levels(document)):
        count += len(level)
        if depth >= MAXIMUM_DEPTH or count > MAXIMUM_VALUES:
            raise MalformedRequest("The JSON is nested too deeply or holds too many values.")
        if any(isinstance(value, float) and not isfinite(value) for value in level):
            raise ValidationFailed("Numbers must be finite.")
