"""`demo-steps`: a job for trying and measuring the platform."""

from __future__ import annotations

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
        "permanent": fields.Boolean(load_default=False),
    },
    retry_delay=1.0,
)
def demo_steps(ctx: JobContext, steps: int, sleep_ms: int, fail_at: int | None, permanent: bool) -> dict[str, Any]:
    """Counts to `steps`, waiting `sleepMs` at each; fails at step `failAt`, for good if `permanent`."""
    for step in range(1, steps + 1):
        if sleep_ms:
            ctx.sleep(sleep_ms / 1000)
        if step == fail_at:
            if permanent:
                raise PermanentError(f"Failed for good at step {step}", code="demo_failure")
            raise RuntimeError(f"Failed at step {step}")
        ctx.progress(step, steps, f"Step {step} of {steps}")
    return {"steps": steps, "attempt": ctx.attempt}
