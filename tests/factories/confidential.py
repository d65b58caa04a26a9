"""A job type for the tests that puts its secret wherever a job can put something, and its twin that hides nothing."""

from __future__ import annotations

from typing import Any

from marshmallow import fields, validate

from service.jobs.errors import PermanentError, RetryLater
from service.jobs.registry import job_type
from tasks.context import JobContext

NAME = "confidential"
# What shows that a search for a secret would find one.
OPEN_TWIN = "not-confidential"
WAYS = ("complete", "permanent", "later", "exit", "chained", "unstorable", "error", "no-json", "wait", "break")


def _fail(how: str, secret: str) -> None:
    """Fail in one of the ways that a body has."""
    if how == "permanent":
        raise PermanentError(f"{secret} is refused", code="card_refused")
    if how == "later":
        raise RetryLater(3600, f"{secret} is busy")
    if how == "exit":
        raise SystemExit(secret)
    if how == "chained":
        try:
            raise KeyError(secret)
        except KeyError as error:
            raise ValueError(f"no {secret}") from error
    if how == "unstorable":
        raise ValueError(f"{secret}\x00")
    raise RuntimeError(secret)


def confidential(ctx: JobContext, secret: str, how: str) -> dict[str, Any]:
    """Logs its secret, then gives it back or fails with it."""
    for number in range(3):
        ctx.log(f"line {number}: {secret}")
    ctx.progress(1, 2, "Half way")
    if how == "complete":
        return {"echo": secret, "parents": {name: parent.result for name, parent in ctx.parents().items()}}
    if how == "no-json":
        return {"echo": {secret}}
    if how in {"wait", "break"}:
        _wait(ctx, secret, breaks=how == "break")
    _fail(how, secret)
    return {}


def _wait(ctx: JobContext, secret: str, *, breaks: bool) -> None:
    """Wait to be cancelled, with a past that nobody may see; `breaks`: with a callback that fails."""

    def break_down() -> None:
        raise OSError(f"cannot close {secret}")

    if breaks:
        ctx.on_cancel(break_down)
    try:
        raise KeyError(secret)
    except KeyError:
        ctx.sleep(60)


for name, is_sensitive in ((NAME, True), (OPEN_TWIN, False)):
    job_type(
        name,
        title="Confidential",
        payload={
            "secret": fields.String(required=True),
            "how": fields.String(load_default="complete", validate=validate.OneOf(WAYS)),
        },
        retry_delay=0.2,
        sensitive=is_sensitive,
    )(confidential)
