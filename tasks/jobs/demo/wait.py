"""`demo-wait`: a job for trying what a cancel, and the end of its worker, do to a running job."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from marshmallow import fields, validate

from service.jobs.errors import WorkerStopping
from service.jobs.registry import job_type
from tasks.context import JobContext

LOOK_SECONDS = 0.05


@job_type(
    "demo-wait",
    title="Demo wait",
    payload={
        "seconds": fields.Float(required=True, validate=validate.Range(0, 3_600)),
        "manner": fields.String(load_default="waits", validate=validate.OneOf(["waits", "yields", "ignores"])),
    },
)
def demo_wait(ctx: JobContext, seconds: float, manner: str) -> dict[str, Any]:
    """Waits for some `seconds`, and writes to its log that it cleans up.

    `manner`: it `waits` until it is cancelled, `yields` as soon as its worker stops, or is busy and `ignores` all.
    """
    try:
        {"waits": _wait, "yields": _yield, "ignores": _ignore}[manner](ctx, seconds)
    finally:
        ctx.log("Cleaned up")
    return {"attempt": ctx.attempt}


def _wait(ctx: JobContext, seconds: float) -> None:
    cancelled = threading.Event()
    ctx.on_cancel(cancelled.set)
    cancelled.wait(seconds)
    ctx.check_cancelled()


def _yield(ctx: JobContext, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if ctx.stopping:
            ctx.log("Kept a checkpoint")
            raise WorkerStopping
        ctx.sleep(LOOK_SECONDS)


def _ignore(_ctx: JobContext, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with contextlib.suppress(BaseException):
            while time.monotonic() < ends:
                continue
