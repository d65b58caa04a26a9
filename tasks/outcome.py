"""What comes of an attempt: a result that can be stored, or an error as the contract writes it."""

from __future__ import annotations

import re
import traceback as traceback_module
from types import TracebackType
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from service.jobs.errors import PermanentError, RetryLater
from service.text import is_storable_json, levels, storable

MAXIMUM_MESSAGE_LENGTH = 2_000
MAXIMUM_TRACEBACK_LENGTH = 20_000
# Deeper than any real result; near a thousand the parsers of those who read it give up, later PostgreSQL does.
MAXIMUM_DEPTH = 200
CONCEALED_MESSAGE = "The job failed. Its type is sensitive, so the details are not kept."

TIMEOUTS = (SoftTimeLimitExceeded, TimeLimitExceeded)


class Concealed(Exception):
    """Stands for what went wrong in a sensitive job: it tells what kind of failure it was and where, no data."""

    def __init__(self, error: dict[str, Any], places: str, delay: float | None) -> None:
        # All of it in `args`: the exception travels to the worker's parent process, and to Celery's result backend.
        super().__init__(error, places, delay)
        self.error = error
        self.places = places
        self.delay = delay

    def __str__(self) -> str:
        """The message alone."""
        return str(self.error["message"])


def checked_result(result: Any) -> Any:
    """The result of a body; raises PermanentError where it is no JSON, or none that can be stored and read again."""
    try:
        if not is_storable_json(result):
            raise PermanentError("The result holds text that cannot be stored.", code="invalid_result")
        is_too_deep = any(depth > MAXIMUM_DEPTH for depth, _ in enumerate(levels(result)))
    except RecursionError:
        is_too_deep = True
    except (TypeError, ValueError) as error:
        raise PermanentError(f"The result is no JSON: {error}", code="invalid_result") from None
    if is_too_deep:
        raise PermanentError(f"The result is nested more than {MAXIMUM_DEPTH} levels deep.", code="invalid_result")
    return result


def describe(exception: BaseException, permanent: tuple[type[Exception], ...]) -> dict[str, Any]:
    """An exception as `{code, message, retryable}`."""
    if isinstance(exception, Concealed):
        return exception.error
    message = storable(str(exception) or type(exception).__name__)[:MAXIMUM_MESSAGE_LENGTH]
    if isinstance(exception, TIMEOUTS):
        return {"code": "timeout", "message": "The job took longer than it may.", "retryable": True}
    if isinstance(exception, PermanentError):
        return {"code": exception.code, "message": message, "retryable": False}
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(exception).__name__).lower()
    return {"code": words, "message": message, "retryable": not isinstance(exception, permanent)}


def asked_delay(exception: BaseException) -> float | None:
    """Seconds until the next attempt, where the job asked for a time of its own."""
    return exception.delay if isinstance(exception, RetryLater | Concealed) else None


def conceal(exception: BaseException, permanent: tuple[type[Exception], ...]) -> BaseException:
    """What may be known of an exception that a sensitive job raised: its words may hold the job's data.

    What ends the attempt or the process without a failure stays what it is, without words and without a past.
    """
    if not isinstance(exception, Exception):
        return type(exception)(*[word for word in exception.args if isinstance(word, int)])
    error = describe(exception, permanent)
    if not isinstance(exception, TIMEOUTS):
        error["message"] = CONCEALED_MESSAGE
    return Concealed(error, _places(exception), asked_delay(exception))


def traceback_text(exception: BaseException, traceback: TracebackType | None) -> str | None:
    """The traceback for operators, its end where it is long."""
    if isinstance(exception, Concealed):
        return storable(exception.places)[-MAXIMUM_TRACEBACK_LENGTH:]
    if not isinstance(traceback, TracebackType):
        # The parent process has it as text, in Celery's own words.
        return storable(str(traceback))[-MAXIMUM_TRACEBACK_LENGTH:] if traceback else None
    lines = traceback_module.format_exception(type(exception), exception, traceback)
    return storable("".join(lines))[-MAXIMUM_TRACEBACK_LENGTH:]


def _places(exception: BaseException) -> str:
    """Files, lines and functions, without the lines of code and without the exception's words."""
    frames = traceback_module.extract_tb(exception.__traceback__)
    places = [f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}' for frame in frames]
    return "\n".join(["Traceback (most recent call last):", *places, type(exception).__name__])
