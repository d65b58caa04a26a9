"""A job type as a Celery task: runs an attempt that has been claimed, and nothing else."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import marshmallow as ma
import structlog
from celery import Celery, Task
from celery import states as celery_states
from celery.exceptions import Ignore

from service.database import db
from service.jobs.errors import JobCancelled, LeaseLost, PermanentError, WorkerStopping
from service.jobs.lifecycle import hand_back_job, stop_job
from service.jobs.registry import JobType, all_job_types
from service.jobs.sealing import Unreadable, seal, unseal
from tasks.application import in_application
from tasks.context import JobContext
from tasks.lease import Attempt, attempt_of, body_of, until_written
from tasks.outcome import checked_result, conceal

log = structlog.get_logger(__name__)


class JobTask(Task):  # type: ignore[misc]  # Celery publishes no types
    """Runs the body of a job type; the signal receivers claim before and write the end after."""

    abstract = True
    job_type: JobType

    def run(self, job_id: str) -> Any:
        """The result of the body, or Ignore where the attempt is not ours to run."""
        attempt = attempt_of(self.request.id)
        if attempt is None:
            # Another worker has it, it was cancelled, or the message came twice.
            raise Ignore
        structlog.contextvars.bind_contextvars(job_id=job_id, attempt=attempt.number)
        try:
            with in_application():
                return self._run(attempt)
        finally:
            # Whatever the body left open must not reach the next one.
            _leave_no_session()
            structlog.contextvars.unbind_contextvars("job_id", "attempt")

    def _run(self, attempt: Attempt) -> Any:
        context = JobContext(attempt, self)
        try:
            result = self._sealed_outcome(context, attempt) if attempt.is_sensitive else self._outcome(context, attempt)
            context.close()
            return result
        except JobCancelled:
            _leave_no_session()
            context.close()
            until_written(lambda: stop_job(UUID(attempt.job_id), attempt.number, attempt.progress))
            self.update_state(state=celery_states.REVOKED)
            raise Ignore from None
        except WorkerStopping:
            # It may have struck in the middle of a transaction of the body's.
            _leave_no_session()
            context.close()
            until_written(lambda: hand_back_job(UUID(attempt.job_id), attempt.number, self.request.hostname))
            raise Ignore from None
        except LeaseLost:
            log.warning("lease_lost")
            raise Ignore from None
        except BaseException:
            context.close()
            raise

    def _outcome(self, context: JobContext, attempt: Attempt) -> Any:
        payload = self._payload(attempt)
        with body_of(attempt):
            result = self.job_type.body(context, **payload)
        return checked_result(result)

    def _sealed_outcome(self, context: JobContext, attempt: Attempt) -> Any:
        """The result as nobody but the job's owner can read it; raises nothing that tells of the job's data."""
        try:
            return seal(self._outcome(context, attempt), attempt.owner)
        except BaseException as error:
            failure = conceal(error, self.job_type.permanent)
        # Only here: raised in the clause above it would take the first exception along, as its context.
        raise failure

    def _payload(self, attempt: Attempt) -> dict[str, Any]:
        payload = json.loads(attempt.row["payload"])
        try:
            if attempt.is_sensitive:
                payload = unseal(payload, attempt.owner)
            loaded: dict[str, Any] = self.job_type.schema.load(payload)
        except Unreadable:
            raise PermanentError("The key of the payload is gone.", code="payload_unreadable") from None
        except ma.ValidationError as error:
            # The type has changed since the job was accepted.
            raise PermanentError(f"Invalid payload: {error.messages}", code="invalid_payload") from None
        return loaded


def _leave_no_session() -> None:
    with in_application():
        db.session.remove()


def register_job_tasks(app: Celery) -> None:
    """Make each job type a task of its own name, so that Flower and logs speak of it by that name."""
    for kind in all_job_types():
        task = type(f"JobTask_{kind.name}", (JobTask,), {"name": kind.name, "job_type": kind})
        app.register_task(task())
