"""Shapes of workflows."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import validate

from service.jobs.dependencies import CANCEL, POLICIES
from service.jobs.schemas import MAXIMUM_PARENTS, JobSchema, OptionsSchema, ProgressSchema
from service.pagination import LongListArguments, PaginationSchema
from service.workflows.states import STATUSES

MAXIMUM_STEPS = 1_000
REF = validate.Regexp(r"[A-Za-z0-9._-]{1,100}\Z", error="Must be letters, digits, dots, dashes and underscores.")


class EdgeSchema(ma.Schema):
    """A step to wait for."""

    ref = ma.fields.String(required=True, validate=REF)
    on_failure = ma.fields.String(data_key="onFailure", validate=validate.OneOf(POLICIES))


class EdgeField(ma.fields.Field[Any]):
    """A step to wait for: its ref, or `{ref, onFailure}`."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> dict[str, Any]:  # noqa: ARG002
        given = {"ref": value} if isinstance(value, str) else value
        if not isinstance(given, dict):
            raise ma.ValidationError("Must be the ref of a step, or {ref, onFailure}.")
        loaded: dict[str, Any] = EdgeSchema().load(given)
        return loaded


class StepOptionsSchema(OptionsSchema):
    """How a step is to be run; what it waits for stands beside its options."""

    class Meta:
        """A step waits for other steps, by their refs."""

        exclude = ("depends_on",)


class StepSchema(ma.Schema):
    """A job of a workflow."""

    ref = ma.fields.String(required=True, validate=REF, metadata={"description": "Its name among the steps"})
    type = ma.fields.String(required=True, validate=validate.Length(1, 100))
    name = ma.fields.String(validate=validate.Length(1, 200))
    payload = ma.fields.Dict(keys=ma.fields.String(), load_default=dict)
    options = ma.fields.Nested(StepOptionsSchema, load_default=dict)
    depends_on = ma.fields.List(
        EdgeField(metadata={"description": "The ref of a step, or {ref, onFailure: cancel, continue or fail}"}),
        data_key="dependsOn",
        load_default=list,
        validate=validate.Length(max=MAXIMUM_PARENTS),
    )
    on_parent_failure = ma.fields.String(
        data_key="onParentFailure",
        load_default=CANCEL,
        validate=validate.OneOf(POLICIES),
        metadata={"description": "What becomes of this step if one that it waits for fails or is cancelled"},
    )


class WorkflowBodySchema(ma.Schema):
    """Jobs to be run in the order of their dependencies."""

    @ma.pre_load
    def _not_too_many(self, data: Any, **_: Any) -> Any:
        # Before each is looked at: a million wrong ones would make a million messages.
        if isinstance(data, dict) and isinstance(data.get("steps"), list) and len(data["steps"]) > MAXIMUM_STEPS:
            raise ma.ValidationError({"steps": [f"Length must be between 1 and {MAXIMUM_STEPS}."]})
        return data

    name = ma.fields.String(required=True, validate=validate.Length(1, 200))
    steps = ma.fields.List(ma.fields.Nested(StepSchema), required=True, validate=validate.Length(1, MAXIMUM_STEPS))


class WorkflowSchema(ma.Schema):
    """A workflow."""

    id = ma.fields.UUID(required=True)
    name = ma.fields.String(required=True)
    status = ma.fields.String(required=True, validate=validate.OneOf(STATUSES))
    progress = ma.fields.Nested(ProgressSchema, required=True)
    createdAt = ma.fields.DateTime(required=True)
    completedAt = ma.fields.DateTime(required=True, allow_none=True)


class StepJobSchema(JobSchema):
    """The job of a step."""

    dependsOn = ma.fields.List(ma.fields.String(), required=True, metadata={"description": "Refs of other steps"})


class WorkflowWithJobsSchema(WorkflowSchema):
    """A workflow with its jobs."""

    jobs = ma.fields.Dict(keys=ma.fields.String(), values=ma.fields.Nested(StepJobSchema), required=True)


class WorkflowPageSchema(ma.Schema):
    """A page of workflows."""

    data = ma.fields.List(ma.fields.Nested(WorkflowSchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)


class WorkflowFilterSchema(LongListArguments):
    """The filters of the list of workflows."""

    status = ma.fields.String(validate=validate.OneOf(STATUSES))
    q = ma.fields.String(validate=validate.Length(1, 200), metadata={"description": "Part of the name"})
