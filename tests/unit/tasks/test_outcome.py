"""What may be known of a sensitive job's failure, on its way through Celery and its processes."""

from __future__ import annotations

import pickle

import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from service.jobs.errors import JobCancelled, PermanentError, RetryLater, WorkerStopping
from tasks.outcome import CONCEALED_MESSAGE, Concealed, asked_delay, conceal, describe, traceback_text


def raised(error: BaseException) -> BaseException:
    """The exception, with a traceback that leads here."""
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "code", "is_retryable"),
    [
        (ValueError("secret"), "value_error", True),
        (PermanentError("secret", code="bad_card"), "bad_card", False),
        (KeyError("secret"), "key_error", False),
        (RetryLater(30, "secret"), "retry_later", True),
    ],
)
def test_code_and_permanence_are_kept_and_words_are_not(error: Exception, code: str, is_retryable: bool) -> None:
    concealed = conceal(raised(error), (LookupError,))
    assert describe(concealed, ()) == {"code": code, "message": CONCEALED_MESSAGE, "retryable": is_retryable}
    assert asked_delay(concealed) == asked_delay(error)
    assert "secret" not in repr(concealed) + str(concealed)


def test_the_traceback_has_places_but_neither_code_nor_words() -> None:
    text = traceback_text(conceal(raised(ValueError("secret")), ()), None)
    assert text is not None
    assert "test_outcome.py" in text
    assert "in raised" in text
    assert text.endswith("ValueError")
    assert "raise error" not in text


def test_a_concealed_failure_travels_between_processes() -> None:
    concealed = conceal(raised(RetryLater(30, "secret")), ())
    arrived = pickle.loads(pickle.dumps(concealed))
    assert isinstance(arrived, Concealed)
    assert (describe(arrived, ()), arrived.delay) == (describe(concealed, ()), 30)


def test_the_platforms_own_words_are_kept() -> None:
    assert describe(conceal(SoftTimeLimitExceeded(), ()), ())["message"] == "The job took longer than it may."


@pytest.mark.parametrize("error", [JobCancelled(), WorkerStopping(), SystemExit(3)])
def test_what_is_no_failure_stays_what_it_is(error: BaseException) -> None:
    kept = conceal(error, ())
    assert (type(kept), kept.args) == (type(error), error.args)


def test_what_a_process_says_at_its_end_is_dropped() -> None:
    assert conceal(SystemExit("secret"), ()).args == ()
