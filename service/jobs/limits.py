"""Limits on what runs: how many jobs of a subject at once, and how many starts in a time.

A subject is a text: `type:<type>`, `key:<tenant>:<type>:<key>`, `user:<id>` or `tenant:<id>`. A job has up to four.
"""

from __future__ import annotations

from dataclasses import dataclass

from service.events import JobRow

BUCKET = "bucket"
WINDOW = "window"
KINDS = (BUCKET, WINDOW)


@dataclass(frozen=True)
class Rate:
    """At most `limit` starts in `period` seconds.

    `kind` bucket: the starts come back evenly, one each `period / limit` seconds, and up to `limit` may be saved up;
    window: all of them come back at the start of each period, counted from 1970.
    """

    limit: int
    period: float
    kind: str = BUCKET


@dataclass(frozen=True)
class Limit:
    """What one subject may do; None: as much as there is."""

    concurrency: int | None = None
    rate: Rate | None = None


UNLIMITED = Limit()


def limit_of(concurrency: int | None, rate: int | None, period: float | None, kind: str | None) -> Limit:
    """The limit of a row of `job_limits`."""
    if rate is None or period is None or kind is None:
        return Limit(concurrency)
    return Limit(concurrency, Rate(rate, period, kind))


def type_subject(job_type: str) -> str:
    """All jobs of a type, of every tenant."""
    return f"type:{job_type}"


def key_subject(organization_id: object, job_type: str, key: str) -> str:
    """The jobs of a type with a concurrency key, of one tenant."""
    return f"key:{organization_id}:{job_type}:{key}"


def user_subject(user_id: object) -> str:
    """All jobs of a user."""
    return f"user:{user_id}"


def tenant_subject(organization_id: object) -> str:
    """All jobs of a tenant."""
    return f"tenant:{organization_id}"


def subjects_of(job: JobRow) -> list[str]:
    """The subjects of a job, widest last."""
    key = job["concurrency_key"]
    return [
        *([] if key is None else [key_subject(job["organization_id"], job["type"], key)]),
        type_subject(job["type"]),
        user_subject(job["user_id"]),
        tenant_subject(job["organization_id"]),
    ]
