"""The job types that this installation knows: `@job_type` declares one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

import marshmallow as ma

from service.errors import ValidationFailed, flatten_messages
from service.jobs.errors import UnknownJobType
from service.jobs.limits import Limit, Rate
from service.jobs.retry import EXPONENTIAL

Body = Callable[..., Any]
# (owner's id, the payload as loaded): raises a CarillonError when the owner may not submit this.
Check = Callable[[UUID, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Notices:
    """What the inbox says of a type's jobs: titles by what happened, None for the usual ones with the job's name.

    `view` labels the button of a completed one that leads to its result; None: no button.
    """

    queued: str | None = None
    started: str | None = None
    completed: str | None = None
    failed: str | None = None
    cancelled: str | None = None
    view: str | None = None


@dataclass(frozen=True)
class JobType:
    """A kind of job: what it takes, what it runs, and how it is retried where the job does not say."""

    name: str
    title: str
    description: str
    payload: type[ma.Schema]
    body: Body
    # None: the first of the setting JOB_QUEUES.
    queue: str | None
    priority: int
    retry_limit: int
    retry_delay: float
    retry_strategy: str
    # Seconds; None: the setting JOB_TIMEOUT_MINUTES.
    timeout: int | None
    # Seconds a job may wait to begin; None: for ever.
    expire_in_seconds: float | None
    permanent: tuple[type[Exception], ...]
    stages: tuple[str, ...]
    # Whether the owner's inbox also tells that the job was queued.
    tells_queued: bool
    notices: Notices | None
    check: Check | None
    # Of all jobs of the type, and of those with the same concurrency key in a tenant.
    limit: Limit
    key_limit: Limit
    # Payload and result are encrypted at rest and told to nobody but their owner.
    sensitive: bool
    # Seconds a running job has to obey a cancel before its process is killed; None: the setting.
    cancel_grace: float | None

    @cached_property
    def schema(self) -> ma.Schema:
        """The payload's schema; it keeps nothing between loads, so one serves all."""
        return self.payload()

    def load(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The keyword arguments of the body that a submitted payload makes; raises ValidationFailed."""
        try:
            loaded: dict[str, Any] = self.schema.load(payload)
        except ma.ValidationError as error:
            raise ValidationFailed(errors=flatten_messages(error.messages, "payload")) from None
        return loaded


_types: dict[str, JobType] = {}
# Names stand in subjects of limits, in URLs and in Celery's task names.
NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


def job_type(
    name: str,
    *,
    title: str,
    payload: Mapping[str, ma.fields.Field[Any]] | type[ma.Schema],
    queue: str | None = None,
    priority: int = 50,
    retry_limit: int = 3,
    retry_delay: float = 10.0,
    retry_strategy: str = EXPONENTIAL,
    timeout: int | None = None,
    expire_in_seconds: float | None = None,
    permanent: tuple[type[Exception], ...] = (),
    stages: tuple[str, ...] = (),
    tells_queued: bool = False,
    notices: Notices | None = None,
    check: Check | None = None,
    concurrency: int | None = None,
    rate: Rate | None = None,
    key_concurrency: int | None = 1,
    key_rate: Rate | None = None,
    sensitive: bool = False,
    cancel_grace: float | None = None,
) -> Callable[[Body], Body]:
    """Declare the decorated function `body(ctx, **payload)` as the job type `name`.

    `payload` is a marshmallow schema or a mapping of its fields; `retry_limit` counts attempts after the first,
    `retry_delay` and `timeout` are seconds, `priority` is 0 to 100 and the highest goes first. Exceptions of the
    types in `permanent` are not retried. `concurrency` and `rate` limit the jobs of the type on the whole
    installation, `key_concurrency` and `key_rate` those with the same `concurrencyKey` in a tenant. A `sensitive`
    type's payload and result are encrypted at rest and stand in no log, event or message. `cancel_grace` is the seconds
    that a running job has to obey a cancel. Raises ValueError when another function has the name, or for a name that
    is no word.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"job type {name!r}: a name has letters, digits, dots, dashes and underscores only")

    def declare(body: Body) -> Body:
        known = _types.get(name)
        if known is not None and known.body.__qualname__ != body.__qualname__:
            raise ValueError(f"job type {name!r} is declared twice")
        schema = payload if isinstance(payload, type) else ma.Schema.from_dict(dict(payload), name=f"{title}Payload")
        _types[name] = JobType(
            name=name,
            title=title,
            description=(body.__doc__ or "").strip(),
            payload=schema,
            body=body,
            queue=queue,
            priority=priority,
            retry_limit=retry_limit,
            retry_delay=retry_delay,
            retry_strategy=retry_strategy,
            timeout=timeout,
            expire_in_seconds=expire_in_seconds,
            permanent=permanent,
            stages=stages,
            tells_queued=tells_queued,
            notices=notices,
            check=check,
            limit=Limit(concurrency, rate),
            key_limit=Limit(key_concurrency, key_rate),
            sensitive=sensitive,
            cancel_grace=cancel_grace,
        )
        return body

    return declare


def get_job_type(name: str) -> JobType:
    """The type of this name; raises UnknownJobType."""
    try:
        return _types[name]
    except KeyError:
        known = ", ".join(sorted(_types))
        raise UnknownJobType(errors={"type": [f"Must be one of: {known}."]}) from None


def find_job_type(name: str) -> JobType | None:
    """The type of this name, if there is one: a job may be older than the present code."""
    return _types.get(name)


def all_job_types() -> Iterator[JobType]:
    """Every type, by name."""
    return iter(sorted(_types.values(), key=lambda each: each.name))
