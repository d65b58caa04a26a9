"""Shapes of the schedules API."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import validate

from service.jobs.schemas import MAXIMUM_DELAY_SECONDS, OptionsSchema
from service.pagination import PageArguments, PaginationSchema
from service.schedules import misfires, overlap
from service.schedules.outcomes import OUTCOMES
from service.schedules.times import SHORTCUTS, BadExpression, check_cron
from service.timezones import check_timezone

SHORTEST_INTERVAL_SECONDS = 1
MAXIMUM_MISFIRES = 100
LONGEST_EXPRESSION = 200


def _is_cron(value: str) -> None:
    if len(value) > LONGEST_EXPRESSION:
        raise ma.ValidationError(f"Longer than maximum length {LONGEST_EXPRESSION}.")
    try:
        check_cron(value)
    except BadExpression as error:
        raise ma.ValidationError(str(error)) from None


def _one_of_the_two(data: dict[str, Any]) -> None:
    given = [name for name in ("cron", "interval_seconds") if data.get(name) is not None]
    if len(given) != 1:
        raise ma.ValidationError("Give cron or intervalSeconds, one of the two.", "cron")


class ScheduleOptionsSchema(OptionsSchema):
    """How the jobs of a schedule are to be run; when, and after which jobs, the schedule says."""

    class Meta:
        """What the schedule says."""

        exclude = ("delay", "run_at", "depends_on")


class TimingSchema(ma.Schema):
    """The times of a schedule."""

    cron = ma.fields.String(
        allow_none=True,
        load_default=None,
        validate=_is_cron,
        metadata={
            "description": f"Minute, hour, day of the month, month, day of the week; or {', '.join(SHORTCUTS)}",
            "example": "30 6 * * 1-5",
        },
    )
    interval_seconds = ma.fields.Float(
        data_key="intervalSeconds",
        allow_none=True,
        load_default=None,
        validate=validate.Range(SHORTEST_INTERVAL_SECONDS, MAXIMUM_DELAY_SECONDS),
        metadata={"description": "Counted from the creation of the schedule"},
    )
    timezone = ma.fields.String(
        load_default="UTC",
        validate=check_timezone,
        metadata={"description": "Whose clock the cron expression is about, such as Europe/Berlin"},
    )

    @ma.validates_schema
    def _one_timing(self, data: dict[str, Any], **_: Any) -> None:
        _one_of_the_two(data)


class TimesSchema(ma.Schema):
    """The next five times."""

    nextRuns = ma.fields.List(ma.fields.DateTime(), required=True)


_NAME_RULES = [validate.Length(1, 200), validate.Regexp(r"[\s\S]*\S", error="Must not be blank.")]
_ABOUT_MISFIRES = {
    "description": "What becomes of times that passed while nobody looked: skip, once for all of them, all"
}
_ABOUT_OVERLAP = {
    "description": "While a job of the schedule has not ended: allow another one, skip, buffer one, cancel the former"
}


class NewScheduleSchema(TimingSchema):
    """A submission to be made again and again."""

    name = ma.fields.String(required=True, validate=_NAME_RULES)
    type = ma.fields.String(required=True, validate=validate.Length(1, 100))
    payload = ma.fields.Dict(keys=ma.fields.String(), load_default=dict)
    options = ma.fields.Nested(ScheduleOptionsSchema, load_default=dict)
    misfire_policy = ma.fields.String(
        data_key="misfirePolicy",
        load_default=misfires.ONCE,
        validate=validate.OneOf(misfires.POLICIES),
        metadata=_ABOUT_MISFIRES,
    )
    misfire_limit = ma.fields.Integer(
        data_key="misfireLimit",
        load_default=10,
        validate=validate.Range(1, MAXIMUM_MISFIRES),
        metadata={"description": "Of missed times, all means the newest so many"},
    )
    overlap_policy = ma.fields.String(
        data_key="overlapPolicy",
        load_default=overlap.SKIP,
        validate=validate.OneOf(overlap.POLICIES),
        metadata=_ABOUT_OVERLAP,
    )


class ScheduleChangeSchema(ma.Schema):
    """What to change of a schedule."""

    name = ma.fields.String(validate=_NAME_RULES)
    type = ma.fields.String(validate=validate.Length(1, 100))
    payload = ma.fields.Dict(keys=ma.fields.String())
    options = ma.fields.Nested(ScheduleOptionsSchema)
    cron = ma.fields.String(
        allow_none=True, validate=_is_cron, metadata={"description": "Takes the place of an interval"}
    )
    interval_seconds = ma.fields.Float(
        data_key="intervalSeconds",
        allow_none=True,
        validate=validate.Range(SHORTEST_INTERVAL_SECONDS, MAXIMUM_DELAY_SECONDS),
        metadata={"description": "Takes the place of a cron expression"},
    )
    timezone = ma.fields.String(validate=check_timezone)
    misfire_policy = ma.fields.String(
        data_key="misfirePolicy", validate=validate.OneOf(misfires.POLICIES), metadata=_ABOUT_MISFIRES
    )
    misfire_limit = ma.fields.Integer(data_key="misfireLimit", validate=validate.Range(1, MAXIMUM_MISFIRES))
    overlap_policy = ma.fields.String(
        data_key="overlapPolicy", validate=validate.OneOf(overlap.POLICIES), metadata=_ABOUT_OVERLAP
    )

    @ma.validates_schema
    def _one_timing(self, data: dict[str, Any], **_: Any) -> None:
        if "cron" in data or "interval_seconds" in data:
            _one_of_the_two(data)


class ScheduleSchema(ma.Schema):
    """A submission that is made again and again."""

    id = ma.fields.UUID(required=True)
    userId = ma.fields.UUID(required=True)
    name = ma.fields.String(required=True)
    type = ma.fields.String(required=True)
    payload = ma.fields.Dict(
        required=True, allow_none=True, metadata={"description": "Of a sensitive type null for all but the owner"}
    )
    options = ma.fields.Dict(required=True)
    cron = ma.fields.String(required=True, allow_none=True)
    intervalSeconds = ma.fields.Float(required=True, allow_none=True)
    timezone = ma.fields.String(required=True)
    misfirePolicy = ma.fields.String(required=True, validate=validate.OneOf(misfires.POLICIES))
    misfireLimit = ma.fields.Integer(required=True)
    overlapPolicy = ma.fields.String(required=True, validate=validate.OneOf(overlap.POLICIES))
    nextRunAt = ma.fields.DateTime(required=True, allow_none=True)
    nextRuns = ma.fields.List(
        ma.fields.DateTime(), required=True, metadata={"description": "The next five times; none while it is paused"}
    )
    lastRunAt = ma.fields.DateTime(required=True, allow_none=True)
    lastJobId = ma.fields.UUID(required=True, allow_none=True)
    lastError = ma.fields.String(
        required=True, allow_none=True, metadata={"description": "Why the last time failed, until one leads to a job"}
    )
    failures = ma.fields.Integer(
        required=True, metadata={"description": "Times in a row that failed; after ten it is paused"}
    )
    pausedAt = ma.fields.DateTime(required=True, allow_none=True)
    createdAt = ma.fields.DateTime(required=True)
    updatedAt = ma.fields.DateTime(required=True)


class SchedulePageSchema(ma.Schema):
    """A page of schedules."""

    data = ma.fields.List(ma.fields.Nested(ScheduleSchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)


class ScheduleFilterSchema(PageArguments):
    """The filters of the list of schedules."""

    type = ma.fields.String()
    paused = ma.fields.Boolean()
    q = ma.fields.String(validate=validate.Length(1, 200), metadata={"description": "Part of the name"})


class ScheduleRunSchema(ma.Schema):
    """What became of a time of a schedule."""

    id = ma.fields.UUID(required=True)
    fireTime = ma.fields.DateTime(
        required=True, allow_none=True, metadata={"description": "The time that the run stands for; null: by hand"}
    )
    outcome = ma.fields.String(
        required=True,
        validate=validate.OneOf(OUTCOMES),
        metadata={
            "description": "submitted; existing: a unique job that there was stood for it; skipped: by the overlap "
            "policy or a unique key; failed"
        },
    )
    jobId = ma.fields.UUID(required=True, allow_none=True)
    error = ma.fields.String(required=True, allow_none=True)
    createdAt = ma.fields.DateTime(required=True)


class ScheduleRunPageSchema(ma.Schema):
    """A page of what became of a schedule's times."""

    data = ma.fields.List(ma.fields.Nested(ScheduleRunSchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)
