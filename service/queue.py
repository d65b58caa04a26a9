"""The only door to Celery: tasks are named, never imported, and their arguments are ids."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any
from uuid import UUID

import structlog
from celery import Celery
from kombu.exceptions import BatchPublishError, OperationalError
from redis.exceptions import RedisError

from service.redis_client import redis
from service.settings import RESERVED_QUEUES

log = structlog.get_logger(__name__)

celery_app = Celery("carillon")
celery_app.config_from_object("celeryconfig")

# What a broker that is away raises, through kombu or from its client library.
BROKER_ERRORS = (OperationalError, BatchPublishError, OSError, RedisError)
# A task that has not been heard of for this long has died, or its message was lost.
AWAKE_SECONDS = 5
BROKER_LEVELS = 10
# A connection that fails sooner than this was closed by the other side.
STALE_SECONDS = 0.5
# The task that sends jobs which were held back, and brings queues, tenants and limits into account.
DISPATCH_TASK = "tasks.dispatch.dispatch_jobs"


def task_id_of(job_id: object, attempt: int) -> str:
    """The Celery task id of an attempt: the fence travels with the message."""
    return f"{job_id}.{attempt}"


def job_and_attempt(task_id: str) -> tuple[UUID, int]:
    """The inverse of `task_id_of`; raises ValueError for the id of another task."""
    job_id, _, attempt = task_id.partition(".")
    return UUID(job_id), int(attempt)


def enqueue_jobs(jobs: Iterable[Any]) -> None:
    """Send the messages of job rows, in one go where the broker can; what cannot be sent `relay` finds again."""
    listed = list(jobs)
    began = time.monotonic()
    try:
        try:
            _publish(listed)
        except BatchPublishError:
            # The broker may only have been restarted since the last message: a new connection will do. One that hangs
            # is not asked twice. What was sent twice is claimed once.
            if time.monotonic() - began > STALE_SECONDS:
                raise
            _publish(listed)
    except BROKER_ERRORS as error:
        log.warning("enqueue_failed", error=str(error))


def _publish(jobs: Iterable[Any]) -> None:
    amqp = celery_app.amqp
    # A list of Redis is there once something is in it; a queue of RabbitMQ drops what comes before it is declared.
    declared: Sequence[Any] | None = () if _is_redis() else None
    with celery_app.producer_or_acquire() as producer, producer.batch():
        for job in jobs:
            # What `send_task` does in the end, without its look-ups of options that our messages never have.
            message = amqp.create_task_message(
                task_id_of(job["id"], job["attempt"] + 1),
                job["type"],
                (str(job["id"]),),
                {},
                time_limit=job["timeout"] + HARD_LIMIT_GRACE_SECONDS,
                soft_time_limit=job["timeout"],
                # It goes to SQL; Celery's backend has it only while that cannot be done (see `tasks.lease`).
                ignore_result=True,
                # Or each would be worked out from the arguments, with care for those that are long or nested.
                argsrepr=f"({str(job['id'])!r},)",
                kwargsrepr="{}",
            )
            amqp.send_task_message(
                producer,
                job["type"],
                message,
                queue=job["queue"],
                priority=_broker_priority(job["priority"]),
                declare=declared,
            )


def level_of(priority: int) -> int:
    """A job's priority of 0 to 100 as one of the broker's ten levels, the highest first."""
    return priority * BROKER_LEVELS // 101


def _broker_priority(priority: int) -> int:
    level = level_of(priority)
    # Kombu's Redis transport serves the lowest number first, RabbitMQ the highest.
    return BROKER_LEVELS - 1 - level if _is_redis() else level


@cache
def _is_redis() -> bool:
    return str(celery_app.conf.broker_url).startswith("redis")


# A job that ignores its soft limit is killed this much later.
HARD_LIMIT_GRACE_SECONDS = 10


def wake(task_name: str) -> None:
    """Have a delivery task look for due rows soon; it is sent a message only where it is not awake."""
    bell, awake = bell_keys(task_name)
    try:
        pipeline = redis().pipeline(transaction=False)
        pipeline.rpush(bell, 1)
        # However often it is rung, it is heard once.
        pipeline.ltrim(bell, -1, -1)
        pipeline.set(awake, 1, nx=True, ex=AWAKE_SECONDS)
        heard(task_name, sleeps=pipeline.execute()[-1])
    except BROKER_ERRORS as error:
        log.warning("wake_failed", task=task_name, error=str(error))


# What `wake` does, as the end of a script; it answers with what `heard` asks, for each task. KEYS: from %d on the
# `bell_keys` of each task.
RING = f"""
local sleeps = {{}}
for k = %d, #KEYS, 2 do
    redis.call('RPUSH', KEYS[k], 1)
    redis.call('LTRIM', KEYS[k], -1, -1)
    sleeps[#sleeps + 1] = redis.call('SET', KEYS[k + 1], 1, 'NX', 'EX', {AWAKE_SECONDS}) and 1 or 0
end
return sleeps
"""


def bell_keys(task_name: str) -> tuple[str, str]:
    """Where the bell of a task is, and where stands that it is awake."""
    return _bell(task_name), _awake(task_name)


def heard(task_name: str, sleeps: Any) -> None:
    """After the bell of a task was rung: send the message that starts it where it was not awake to hear."""
    if sleeps:
        celery_app.send_task(task_name, add_to_parent=False)


def listen(task_name: str, seconds: float) -> bool:
    """Stay awake and wait so long for the bell; whether it rang. Raises what Redis raises."""
    client = redis()
    if time.monotonic() - _told_awake.get(task_name, float("-inf")) > AWAKE_SECONDS / 5:
        client.set(_awake(task_name), 1, ex=AWAKE_SECONDS)
        _told_awake[task_name] = time.monotonic()
    return client.blpop([_bell(task_name)], timeout=seconds) is not None


# When this process last said that a task is awake.
_told_awake: dict[str, float] = {}


def fall_asleep(task_name: str) -> bool:
    """Let the next `wake` send a message again; whether the bell rang just before, so that nothing is slept through."""
    _told_awake.pop(task_name, None)
    pipeline = redis().pipeline(transaction=False)
    pipeline.delete(_awake(task_name))
    pipeline.lpop(_bell(task_name))
    return pipeline.execute()[1] is not None


def _awake(task_name: str) -> str:
    return f"carillon:awake:{task_name}"


def _bell(task_name: str) -> str:
    return f"carillon:bell:{task_name}"


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


@cache
def queues() -> tuple[str, ...]:
    """Names of the queues that jobs may use, the default one first."""
    return tuple(queue.name for queue in celery_app.conf.task_queues if queue.name not in RESERVED_QUEUES)


@cache
def _results() -> Any:
    # Celery makes a backend, with connections of its own, for each thread and each green thread that asks.
    return celery_app.backend


def attempt_outcome(job_id: object, attempt: int) -> tuple[str, Any]:
    """What Celery's result backend knows of an attempt: its state, and its result or progress."""
    meta = _results().get_task_meta(task_id_of(job_id, attempt), cache=False)
    return str(meta["status"]), meta.get("result")
