"""Celery's signals turned into actions, nothing more.

Receivers are functions of the module: Celery holds them weakly, and a nested one would be collected. One that raises
is only logged, so each keeps trying while the database is away.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import structlog
from billiard.exceptions import WorkerLostError
from celery import Task, signals
from celery import states as celery_states
from flask import has_app_context
from redis.exceptions import RedisError
from sqlalchemy import text

from service.database import db
from service.jobs.lifecycle import complete_job, fail_job, lose_attempt, start_job
from service.operations.workers import note_worker
from service.queue import job_and_attempt
from service.redis_client import redis
from service.settings import current_settings
from tasks import stopping
from tasks.application import flask_app, in_application
from tasks.base import JobTask
from tasks.lease import DATABASE_AWAY, attempt_of, forget, hold, until_written
from tasks.outcome import asked_delay, describe, traceback_text

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 5.0


def connect_signals() -> None:
    """Have Celery call the receivers below."""
    signals.setup_logging.connect(keep_our_logs)
    signals.worker_init.connect(spare_children)
    signals.worker_process_init.connect(forget_inherited_connections)
    signals.worker_process_init.connect(listen_to_parent)
    signals.worker_process_init.connect(spare_collector)
    signals.worker_ready.connect(begin_heartbeat)
    signals.worker_ready.connect(prepare_to_stop)
    signals.worker_ready.connect(spare_collector)
    signals.worker_shutting_down.connect(begin_to_stop)
    signals.task_prerun.connect(claim)
    signals.task_success.connect(write_result)
    signals.task_failure.connect(write_failure)
    signals.task_postrun.connect(let_go)


def keep_our_logs(**_: Any) -> None:
    """Celery sets up its own logging unless somebody listens here."""
    flask_app()


def forget_inherited_connections(**_: Any) -> None:
    """A forked child must not talk on its parent's connections; it makes its own before the first job needs them."""
    # For the life of the process: each job and each signal around it would otherwise make and unmake its own.
    flask_app().app_context().push()
    with in_application():
        db.engine.dispose(close=False)
        try:
            db.session.execute(text("SELECT 1"))
            redis().ping()
        except (*DATABASE_AWAY, RedisError, OSError) as error:
            log.warning("not_warmed_up", error=str(error).splitlines()[0])


def spare_collector(**_: Any) -> None:
    """What was loaded stays: the collector would look through it again and again, for 0.1 s each time."""
    # There is next to no garbage yet, and each process of a pool would spend that time on finding it.
    gc.freeze()


def begin_heartbeat(sender: Any, **_: Any) -> None:
    """Tell every 5 s that this worker lives and which queues it serves."""
    name = sender.hostname
    queues = [queue.name for queue in sender.app.amqp.queues.consume_from.values()]
    processes = sender.controller.concurrency

    def beat() -> None:
        with in_application():
            note_worker(name, queues, processes)

    beat()
    sender.timer.call_repeatedly(HEARTBEAT_SECONDS, beat)


def spare_children(**_: Any) -> None:
    """What the children will be told must not end one that is not ready to hear it."""
    stopping.turn_deaf()


def listen_to_parent(**_: Any) -> None:
    """A child of a pool hears from its parent that the worker stops."""
    stopping.listen_to_parent()


def prepare_to_stop(sender: Any, **_: Any) -> None:
    """Remember the worker's pool."""
    stopping.know_pool(sender.pool)


def begin_to_stop(sender: str, how: str, **_: Any) -> None:
    """SIGTERM or Ctrl-C: running jobs have a time to finish. The cold ways of stopping are Celery's own."""
    if how == "Warm":
        stopping.stop(sender)


def claim(task_id: str, task: Task, **_: Any) -> None:
    """Before a job: claim its attempt; the task ends as ignored when there is nothing to claim."""
    if not isinstance(task, JobTask):
        return
    job_id, attempt = job_and_attempt(task_id)
    with in_application():
        row = until_written(lambda: start_job(job_id, attempt, task.request.hostname))
        grace = task.job_type.cancel_grace
        if grace is None:
            grace = current_settings().cancel_grace_seconds
    if row is None:
        log.info("claim_refused", job_id=str(job_id), attempt=attempt)
    else:
        hold(task_id, row, grace)


def write_result(sender: Task, result: Any, **_: Any) -> None:
    """After a job: its result. Until it is written the backend may be left it, where a rescue would find it."""
    if not isinstance(sender, JobTask):
        return
    task_id = sender.request.id
    job_id, attempt = job_and_attempt(task_id)
    progress = _last_progress(task_id)
    if (held := attempt_of(task_id)) is not None:
        backend = sender.backend
        held.keep_result = lambda: backend.store_result(task_id, result, celery_states.SUCCESS)
    with in_application():
        until_written(lambda: complete_job(job_id, attempt, result, progress))


def write_failure(
    sender: Task,
    task_id: str,
    exception: BaseException,
    traceback: TracebackType | None = None,
    **_: Any,
) -> None:
    """After a job: why it failed. Also called by the parent process, for a child that died or was killed."""
    if not isinstance(sender, JobTask):
        return
    job_id, attempt = job_and_attempt(task_id)
    # A child lives in a context. The parent does not wait for a database: all its children would wait with it, and what
    # it could not write is found by the rescue.
    keep_trying = until_written if has_app_context() else _once
    with in_application():
        if isinstance(exception, WorkerLostError):
            keep_trying(lambda: lose_attempt(job_id, attempt))
            return
        error = describe(exception, sender.job_type.permanent)
        text = traceback_text(exception, traceback)
        progress = _last_progress(task_id)
        retry_in = asked_delay(exception)
        keep_trying(lambda: fail_job(job_id, attempt, error, text, progress, retry_in=retry_in))


def _once(write: Callable[[], Any]) -> None:
    write()


def _last_progress(task_id: str) -> Mapping[str, Any] | None:
    # The parent process, which speaks for a child that died, knows none.
    attempt = attempt_of(task_id)
    return None if attempt is None else attempt.progress


def let_go(task_id: str, **_: Any) -> None:
    """After everything: the end is written, so the lease need not be renewed any more."""
    forget(task_id)
