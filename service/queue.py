"""The only door to Celery: tasks are named, never imported, and their arguments are ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import structlog
from celery import Celery
from celery.result import AsyncResult
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from service.redis_client import redis

log = structlog.get_logger(__name__)

celery_app = Celery("carillon")
celery_app.config_from_object("celeryconfig")

# What a broker that is away raises, through kombu or from its client library.
BROKER_ERRORS = (OperationalError, OSError, RedisError)
# A wake-up that nobody has taken for this long was lost with its message.
WAKE_UP_SECONDS = 5
BROKER_LEVELS = 10


def task_id_of(job_id: object, attempt: int) -> str:
    """The Celery task id of an attempt: the fence travels with the message."""
    return f"{job_id}.{attempt}"


def job_and_attempt(task_id: str) -> tuple[UUID, int]:
    """The inverse of `task_id_of`; raises ValueError for the id of another task."""
    job_id, _, attempt = task_id.partition(".")
    return UUID(job_id), int(attempt)


def enqueue_jobs(jobs: Iterable[Any]) -> None:
    """Send the message of each job row; one that cannot be sent is found again by `relay`."""
    try:
        with celery_app.producer_or_acquire() as producer:
            for job in jobs:
                celery_app.send_task(
                    job["type"],
                    args=(str(job["id"]),),
                    task_id=task_id_of(job["id"], job["attempt"] + 1),
                    queue=job["queue"],
                    # Kombu's Redis transport serves the lowest number first.
                    priority=BROKER_LEVELS - 1 - job["priority"] * BROKER_LEVELS // 101,
                    time_limit=job["timeout"] + HARD_LIMIT_GRACE_SECONDS,
                    soft_time_limit=job["timeout"],
                    producer=producer,
                )
    except BROKER_ERRORS as error:
        log.warning("enqueue_failed", error=str(error))


# A job that ignores its soft limit is killed this much later.
HARD_LIMIT_GRACE_SECONDS = 10


def wake(task_name: str) -> None:
    """Have a delivery task run soon; many wake-ups before it starts are one."""
    try:
        if redis().set(_wake_key(task_name), 1, nx=True, ex=WAKE_UP_SECONDS):
            celery_app.send_task(task_name)
    except BROKER_ERRORS as error:
        log.warning("wake_failed", task=task_name, error=str(error))


def awake(task_name: str) -> None:
    """The task has started: whoever writes rows from now on must wake it again."""
    redis().delete(_wake_key(task_name))


def _wake_key(task_name: str) -> str:
    return f"carillon:wake:{task_name}"


def depth(queue: str) -> int:
    """Messages waiting in the broker for a queue."""
    with celery_app.connection_for_read() as connection:
        declared = celery_app.amqp.queues[queue]
        # Not passively: a queue that nobody has used since the broker was emptied has no messages, and is no error.
        answer = connection.default_channel.queue_declare(
            queue=queue,
            durable=declared.durable,
            auto_delete=declared.auto_delete,
            arguments=declared.queue_arguments,
        )
        return int(answer.message_count)


def queues() -> tuple[str, ...]:
    """Names of the queues that jobs may use."""
    return tuple(queue.name for queue in celery_app.conf.task_queues if queue.name not in {"delivery", "housekeeping"})


def attempt_outcome(job_id: object, attempt: int) -> tuple[str, Any]:
    """What Celery's result backend knows of an attempt: its state, and its result or progress."""
    result = AsyncResult(task_id_of(job_id, attempt), app=celery_app)
    meta = result.backend.get_task_meta(result.id, cache=False)
    return str(meta["status"]), meta.get("result")
