"""`demo-steps`: a job for trying and measuring the platform."""

from __future__ import annotations

import os
from typing import Any

from marshmallow import fields, validate

from service.jobs.errors import PermanentError
from service.jobs.registry import job_type
from tasks.context import JobContext


@job_type(
    "demo-steps",
    title="Demo steps",
    payload={
        "steps": fields.Integer(required=True, validate=validate.Range(1, 10_000)),
        "sleep_ms": fields.Integer(data_key="sleepMs", load_default=0, validate=validate.Range(0, 60_000)),
        "fail_at": fields.Integer(data_key="failAt", allow_none=True, load_default=None),
        "fail_attempts": fields.Integer(
            data_key="failAttempts", allow_none=True, load_default=None, validate=validate.Range(1)
        ),
        "permanent": fields.Boolean(load_default=False),
        "artifact_bytes": fields.Integer(
            data_key="artifactBytes", allow_none=True, load_default=None, validate=validate.Range(0, 2**40)
        ),
    },
    retry_delay=1.0,
)
def demo_steps(
    ctx: JobContext,
    *,
    steps: int,
    sleep_ms: int,
    fail_at: int | None,
    fail_attempts: int | None,
    permanent: bool,
    artifact_bytes: int | None,
) -> dict[str, Any]:
    """Counts to `steps`, waiting `sleepMs` at each; fails at step `failAt`, for good if `permanent`.

    It fails in its first `failAttempts` attempts, or in every one. Leaves an artifact of `artifactBytes` bytes at the
    end.
    """
    fails = fail_attempts is None or ctx.attempt <= fail_attempts
    for step in range(1, steps + 1):
        if sleep_ms:
            ctx.sleep(sleep_ms / 1000)
        if fails and step == fail_at:
            if permanent:
                raise PermanentError(f"Failed for good at step {step}", code="demo_failure")
            raise RuntimeError(f"Failed at step {step}")
        ctx.progress(step, steps, f"Step {step} of {steps}")
    if artifact_bytes is not None:
        ctx.artifact("demo.bin", _Noise(artifact_bytes))
    return {"steps": steps, "attempt": ctx.attempt}


class _Noise:
    """A file of so many bytes at random that is nowhere."""

    def __init__(self, size: int) -> None:
        self._left = size

    def read(self, size: int, /) -> bytes:
        """The next of them."""
        count = min(size, self._left)
        self._left -= count
        return os.urandom(count)
