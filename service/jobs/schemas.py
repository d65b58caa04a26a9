"""Shapes of the jobs API."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import marshmallow as ma
from marshmallow import validate

from service.clock import utcnow
from service.jobs.acts import ACTS
from service.jobs.bulk import AT_ONCE
from service.jobs.dependencies import CANCEL, POLICIES, Dependency
from service.jobs.retry import STRATEGIES
from service.jobs.states import OLDER_WORDS, STATUSES
from service.jobs.submission import MAXIMUM_BATCH
from service.jobs.uniqueness import DEBOUNCE, MODES, REJECT, THROTTLE, UNFINISHED
from service.pagination import LongListArguments, PaginationSchema

MAXIMUM_DELAY_SECONDS = 10 * 365 * 86400
MAXIMUM_TIMEOUT_SECONDS = 7 * 86400
MAXIMUM_PARENTS = 100


class ProgressSchema(ma.Schema):
    """How far a job has come."""

    current = ma.fields.Float(required=True)
    total = ma.fields.Float(required=True)
    percentage = ma.fields.Float(required=True, metadata={"description": "0 to 100"})
    message = ma.fields.String()
    detail = ma.fields.String()
    etaSeconds = ma.fields.Float()


class JobErrorSchema(ma.Schema):
    """Why an attempt failed."""

    code = ma.fields.String(required=True)
    message = ma.fields.String(required=True)
    retryable = ma.fields.Boolean(required=True)


class JobSchema(ma.Schema):
    """A job."""

    id = ma.fields.UUID(required=True)
    type = ma.fields.String(required=True)
    name = ma.fields.String(required=True)
    status = ma.fields.String(required=True, validate=validate.OneOf(STATUSES))
    priority = ma.fields.Integer(required=True)
    queue = ma.fields.String(required=True)
    attempt = ma.fields.Integer(required=True)
    maxAttempts = ma.fields.Integer(required=True)
    progress = ma.fields.Nested(ProgressSchema, required=True, allow_none=True)
    result = ma.fields.Raw(required=True, allow_none=True)
    error = ma.fields.Nested(JobErrorSchema, required=True, allow_none=True)
    tags = ma.fields.List(ma.fields.String(), required=True)
    uniqueKey = ma.fields.String(required=True, allow_none=True)
    scheduleId = ma.fields.UUID(required=True, allow_none=True)
    workflowId = ma.fields.UUID(required=True, allow_none=True)
    parentId = ma.fields.UUID(required=True, allow_none=True)
    createdAt = ma.fields.DateTime(required=True)
    scheduledAt = ma.fields.DateTime(required=True, allow_none=True)
    startedAt = ma.fields.DateTime(required=True, allow_none=True)
    completedAt = ma.fields.DateTime(required=True, allow_none=True)
    nextAttemptAt = ma.fields.DateTime(required=True, allow_none=True)
    cancelReason = ma.fields.String(required=True, allow_none=True)
    sensitive = ma.fields.Boolean(
        required=True, metadata={"description": "Its result is null but for its owner, who asks for this one job"}
    )
    queuePosition = ma.fields.Integer(metadata={"description": "While it is queued: 1 is the next to run"})
    estimatedWaitSeconds = ma.fields.Float(metadata={"description": "While it is queued, as far as can be told"})
    version = ma.fields.Integer(required=True)


class JobPageSchema(ma.Schema):
    """A page of jobs."""

    data = ma.fields.List(ma.fields.Nested(JobSchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)


class ExecutionSchema(ma.Schema):
    """A finished attempt of a job."""

    id = ma.fields.UUID(required=True)
    attempt = ma.fields.Integer(required=True)
    status = ma.fields.String(required=True)
    worker = ma.fields.String(required=True, allow_none=True)
    error = ma.fields.Nested(JobErrorSchema, required=True, allow_none=True)
    startedAt = ma.fields.DateTime(required=True)
    finishedAt = ma.fields.DateTime(required=True)
    durationMs = ma.fields.Float(required=True)
    traceback = ma.fields.String(allow_none=True, metadata={"description": "For operators only"})


class ExecutionListSchema(ma.Schema):
    """The finished attempts of a job."""

    data = ma.fields.List(ma.fields.Nested(ExecutionSchema), required=True)


class LogLineSchema(ma.Schema):
    """A line of a job's log."""

    id = ma.fields.UUID(required=True)
    attempt = ma.fields.Integer(required=True)
    level = ma.fields.String(required=True)
    message = ma.fields.String(
        required=True, allow_none=True, metadata={"description": "null in a sensitive job that is not yours"}
    )
    createdAt = ma.fields.DateTime(required=True)


class LogPageSchema(ma.Schema):
    """A page of a job's log."""

    data = ma.fields.List(ma.fields.Nested(LogLineSchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)


def _within_ten_years(moment: datetime) -> None:
    if moment > utcnow() + timedelta(seconds=MAXIMUM_DELAY_SECONDS):
        raise ma.ValidationError("Must lie within ten years.")


class UniqueSchema(ma.Schema):
    """What it means that another job holds the singletonKey."""

    mode = ma.fields.String(
        validate=validate.OneOf(MODES),
        load_default=REJECT,
        metadata={
            "description": "reject: 409; existing: the job there is; replace: a job that has not begun gets this "
            "payload; debounce: its time is pushed back by the period; throttle: one job a period"
        },
    )
    period = ma.fields.Float(
        validate=validate.Range(0.001, MAXIMUM_DELAY_SECONDS),
        metadata={"description": "Seconds from its submission during which a job holds the key in any status"},
    )
    states = ma.fields.List(
        ma.fields.String(validate=validate.OneOf(UNFINISHED)),
        validate=validate.Length(min=1),
        metadata={"description": "Statuses in which a job holds the key; every unfinished one if not given"},
    )

    @ma.validates_schema
    def _fits_its_mode(self, data: dict[str, Any], **_: Any) -> None:
        timed = data["mode"] in {DEBOUNCE, THROTTLE}
        if timed and "period" not in data:
            raise ma.ValidationError("This mode needs a period.", "period")
        if timed and "states" in data:
            raise ma.ValidationError("This mode has states of its own.", "states")


class DependencyField(ma.fields.Field[Dependency]):
    """A job to wait for: its id, or `{jobId, onFailure}`."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Dependency:  # noqa: ARG002
        given = {"jobId": value} if isinstance(value, str) else value
        if not isinstance(given, dict):
            raise ma.ValidationError("Must be the id of a job, or {jobId, onFailure}.")
        loaded: dict[str, Any] = DependencySchema().load(given)
        return Dependency(**loaded)


class DependencySchema(ma.Schema):
    """A job to wait for."""

    job_id = ma.fields.UUID(data_key="jobId", required=True)
    on_failure = ma.fields.String(
        data_key="onFailure",
        load_default=CANCEL,
        validate=validate.OneOf(POLICIES),
        metadata={"description": "What becomes of this job if that one fails or is cancelled"},
    )


class OptionsSchema(ma.Schema):
    """How a job is to be run, where it should differ from its type."""

    priority = ma.fields.Integer(validate=validate.Range(0, 100))
    delay = ma.fields.Float(
        validate=validate.Range(0, MAXIMUM_DELAY_SECONDS),
        metadata={"description": "Seconds to wait before it is queued"},
    )
    run_at = ma.fields.AwareDateTime(
        data_key="runAt", validate=_within_ten_years, metadata={"description": "When to queue it, within ten years"}
    )
    retry_limit = ma.fields.Integer(data_key="retryLimit", validate=validate.Range(0, 100))
    retry_delay = ma.fields.Float(
        data_key="retryDelay", validate=validate.Range(0, 86400), metadata={"description": "Seconds"}
    )
    retry_backoff = ma.fields.Boolean(
        data_key="retryBackoff", metadata={"description": "true: exponential, false: fixed"}
    )
    retry_strategy = ma.fields.String(data_key="retryStrategy", validate=validate.OneOf(STRATEGIES))
    timeout = ma.fields.Integer(
        validate=validate.Range(1, MAXIMUM_TIMEOUT_SECONDS),
        metadata={"description": "Seconds one attempt may take"},
    )
    tags = ma.fields.List(ma.fields.String(validate=validate.Length(1, 100)), validate=validate.Length(max=20))

    expire_in_seconds = ma.fields.Float(
        data_key="expireInSeconds",
        validate=validate.Range(0.001, MAXIMUM_DELAY_SECONDS),
        metadata={"description": "Seconds the job may wait to begin"},
    )
    singleton_key = ma.fields.String(
        data_key="singletonKey",
        validate=validate.Length(1, 200),
        metadata={"description": "Of the jobs of a type with this key, one at a time"},
    )
    unique = ma.fields.Nested(UniqueSchema)
    queue = ma.fields.String(
        validate=validate.Length(1, 100), metadata={"description": "One of the queues of this installation"}
    )
    concurrency_key = ma.fields.String(
        data_key="concurrencyKey",
        validate=validate.Length(1, 200),
        metadata={"description": "Of the jobs of a type with this key, as many run at once as the type allows"},
    )
    depends_on = ma.fields.List(
        DependencyField(
            metadata={"description": "The id of one of your jobs, or {jobId, onFailure: cancel, continue or fail}"}
        ),
        data_key="dependsOn",
        validate=validate.Length(max=MAXIMUM_PARENTS),
    )
    notify = ma.fields.Boolean(metadata={"description": "false: your inbox hears nothing of this job"})

    @ma.validates_schema
    def _one_way_each(self, data: dict[str, Any], **_: Any) -> None:
        parents = [each.job_id for each in data.get("depends_on", ())]
        if len(set(parents)) < len(parents):
            raise ma.ValidationError("Names a job twice.", "dependsOn")
        if "unique" in data and "singleton_key" not in data:
            raise ma.ValidationError("Needs a singletonKey.", "unique")
        if data.get("unique", {}).get("mode") == DEBOUNCE and ("delay" in data or "run_at" in data):
            raise ma.ValidationError("The period says when a debounced job runs.", "unique")
        if "delay" in data and "run_at" in data:
            raise ma.ValidationError("Give delay or runAt, not both.", "delay")
        if "retry_backoff" in data and "retry_strategy" in data:
            raise ma.ValidationError("Give retryBackoff or retryStrategy, not both.", "retryBackoff")


class SubmissionSchema(ma.Schema):
    """A job to be run."""

    type = ma.fields.String(required=True, validate=validate.Length(1, 100))
    name = ma.fields.String(validate=validate.Length(1, 200))
    payload = ma.fields.Dict(keys=ma.fields.String(), load_default=dict)
    options = ma.fields.Nested(OptionsSchema, load_default=dict)


class BatchSchema(ma.Schema):
    """Jobs to be run, all or none."""

    @ma.pre_load
    def _not_too_many(self, data: Any, **_: Any) -> Any:
        # Before each is looked at: a million wrong ones would make a million messages.
        if isinstance(data, dict) and isinstance(data.get("jobs"), list) and len(data["jobs"]) > MAXIMUM_BATCH:
            raise ma.ValidationError({"jobs": [f"Length must be between 1 and {MAXIMUM_BATCH}."]})
        return data

    jobs = ma.fields.List(ma.fields.Nested(SubmissionSchema), required=True, validate=validate.Length(1, MAXIMUM_BATCH))


class AcceptedBatchSchema(ma.Schema):
    """The jobs of a batch, in its order."""

    data = ma.fields.List(ma.fields.Nested(JobSchema), required=True)


class IdempotencySchema(ma.Schema):
    """A key that makes a submission that comes twice one."""

    class Meta:
        """Other headers are not its concern."""

        unknown = ma.EXCLUDE

    idempotency_key = ma.fields.String(
        data_key="Idempotency-Key",
        load_default=None,
        validate=validate.Regexp(r"[\x20-\x7e]{1,255}\Z", error="Must be 1 to 255 printable ASCII characters."),
    )


class CancelSchema(ma.Schema):
    """Why a job is cancelled."""

    reason = ma.fields.String(validate=validate.Length(max=500), allow_none=True)


class ConditionsSchema(ma.Schema):
    """What jobs can be found by, whatever their status."""

    type = ma.fields.String()
    tag = ma.fields.String()
    queue = ma.fields.String()
    schedule_id = ma.fields.UUID(data_key="scheduleId", metadata={"description": "Submitted by this schedule"})
    since = ma.fields.AwareDateTime(metadata={"description": "Created at this time or later"})
    until = ma.fields.AwareDateTime(metadata={"description": "Created before this time"})
    q = ma.fields.String(validate=validate.Length(1, 200), metadata={"description": "Part of the name"})


class JobConditionsSchema(ConditionsSchema):
    """What jobs can be found by."""

    status = ma.fields.String(
        validate=validate.OneOf([*STATUSES, *OLDER_WORDS]),
        metadata={"description": "A status, or an older word for it"},
    )


class JobFilterSchema(LongListArguments, JobConditionsSchema):
    """The filters of the list of jobs."""


class DeadLetterConditionsSchema(ConditionsSchema):
    """What dead letters can be found by."""

    code = ma.fields.String(metadata={"description": "The code of the error"})
    fingerprint = ma.fields.String(metadata={"description": "Of a group of failures that are alike"})
    q = ma.fields.String(
        validate=validate.Length(1, 200), metadata={"description": "Part of the name or of the error's message"}
    )


class ChoiceSchema(ma.Schema):
    """Conditions for something to be done to all jobs that meet them; none at all has to be said in so many words."""

    all = ma.fields.Boolean(
        validate=validate.Equal(True), metadata={"description": "true, in place of conditions: every job"}
    )

    @ma.validates_schema
    def _says_which(self, data: dict[str, Any], **_: Any) -> None:
        conditions = data.keys() - {"all"}
        if bool(conditions) == ("all" in data):
            raise ma.ValidationError('Give conditions, or {"all": true}.')
        empty = [name for name in sorted(conditions) if not data[name]]
        if empty:
            raise ma.ValidationError({name: ["Must not be empty."] for name in empty})


class JobChoiceSchema(JobConditionsSchema, ChoiceSchema):
    """Jobs for something to be done to."""


class ManySchema(ma.Schema):
    """The jobs that something is to be done to: `ids`, or the `filter` of a schema below this one."""

    ids = ma.fields.List(ma.fields.UUID(), validate=validate.Length(1, AT_ONCE))

    @ma.validates_schema
    def _one_or_the_other(self, data: dict[str, Any], **_: Any) -> None:
        if ("filter" in data) == ("ids" in data):
            raise ma.ValidationError("Give filter or ids.", "filter")


class BulkSchema(ManySchema):
    """Something to be done to many jobs."""

    action = ma.fields.String(
        required=True, validate=validate.OneOf([act.name for act in ACTS.values() if not act.to_dead_letters])
    )
    filter = ma.fields.Nested(JobChoiceSchema)
    reason = ma.fields.String(validate=validate.Length(max=500), metadata={"description": "Why they are cancelled"})


class RateSchema(ma.Schema):
    """How fast something is to be done to many jobs."""

    rate = ma.fields.Float(
        data_key="ratePerSecond",
        load_default=None,
        validate=validate.Range(0.1, 1_000),
        metadata={"description": "Jobs a second; as fast as it goes if not given"},
    )


class BulkErrorSchema(ma.Schema):
    """Why it was not done to one of the jobs."""

    jobId = ma.fields.UUID(required=True)
    code = ma.fields.String(required=True)
    message = ma.fields.String(required=True)


class BulkAnswerSchema(ma.Schema):
    """What was done to many jobs."""

    count = ma.fields.Integer(required=True, metadata={"description": "Jobs that it was done to"})
    skipped = ma.fields.Integer(
        required=True,
        metadata={"description": "Jobs of these ids, or that met the conditions a moment before, that refused it"},
    )
    errors = ma.fields.List(
        ma.fields.Nested(BulkErrorSchema), metadata={"description": "Of those that were skipped, up to a hundred"}
    )


class JobTypeSchema(ma.Schema):
    """A kind of job."""

    name = ma.fields.String(required=True)
    title = ma.fields.String(required=True)
    description = ma.fields.String(required=True)
    payload = ma.fields.Dict(required=True, metadata={"description": "JSON Schema of the payload"})
    stages = ma.fields.List(ma.fields.String(), required=True)
    sensitive = ma.fields.Boolean(
        required=True, metadata={"description": "Payload, result and log are encrypted, for their owner only"}
    )
    defaults = ma.fields.Dict(required=True)
    limits = ma.fields.Dict(
        required=True, metadata={"description": "Of all jobs of the type, and of those with the same concurrencyKey"}
    )


class JobTypeListSchema(ma.Schema):
    """The kinds of jobs of this installation."""

    data = ma.fields.List(ma.fields.Nested(JobTypeSchema), required=True)
