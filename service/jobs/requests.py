"""From the loaded body of a request to a submission, and from its acceptance to the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response

from service.jobs.queries import with_place
from service.jobs.representation import job_json
from service.jobs.retry import EXPONENTIAL, FIXED
from service.jobs.submission import Accepted, Submission
from service.jobs.uniqueness import Unique
from service.web import json_answer


def submission_of(body: Mapping[str, Any]) -> Submission:
    """The submission that a body loaded by `SubmissionSchema`, or one with the same fields, asks for."""
    options = dict(body["options"])
    given_unique = options.pop("unique", None)
    key = options.pop("singleton_key", None)
    unique = Unique(key=key, **(given_unique or {})) if key is not None else None
    if (backoff := options.pop("retry_backoff", None)) is not None:
        options["retry_strategy"] = EXPONENTIAL if backoff else FIXED
    return Submission(type=body["type"], payload=body["payload"], name=body.get("name"), unique=unique, **options)


def accepted_answer(accepted: Accepted) -> Response:
    """202 with the new job, or 200 with the one that there was."""
    # A new job's place came with its insertion.
    job = job_json(accepted.row if accepted.outcome == "new" else with_place(accepted.row))
    headers = {"Location": f"/api/jobs/{job['id']}", **replay_headers(accepted)}
    return json_answer(job, 200 if accepted.outcome == "existing" else 202, headers)


def replay_headers(accepted: Accepted) -> dict[str, str]:
    """What tells a client that an Idempotency-Key led to a first answer."""
    return {"Idempotency-Replayed": "true"} if accepted.outcome == "replayed" else {}
