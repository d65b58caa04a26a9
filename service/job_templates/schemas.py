"""Shapes of the job templates API."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from marshmallow import validate

from service.job_templates.placeholders import NAME
from service.jobs.schemas import OptionsSchema
from service.pagination import PageArguments, PaginationSchema

MAXIMUM_VARIABLES = 100

_NAME_RULES = [validate.Length(1, 200), validate.Regexp(r"[\s\S]*\S", error="Must not be blank.")]
_DESCRIPTION_RULES = validate.Length(max=2_000)
_ABOUT_PAYLOAD = {
    "description": "Texts may hold {{ name }}: a text that is nothing else becomes the value with its type",
    "example": {"steps": "{{ steps }}"},
}
_ABOUT_SHARED = {"description": "Everybody in the organization may read and run it; operators say so"}


class TemplateOptionsSchema(OptionsSchema):
    """How the jobs of a template are to be run; fixed moments and other jobs are given with each run."""

    class Meta:
        """What a run says."""

        exclude = ("run_at", "depends_on")


class VariableSchema(ma.Schema):
    """What a placeholder stands for."""

    name = ma.fields.String(
        required=True,
        validate=validate.Regexp(rf"{NAME}\Z", error="Up to 64 letters, digits and underscores, no digit first."),
    )
    required = ma.fields.Boolean(
        metadata={"description": "true where there is no default; one that is not required and not given is null"}
    )
    default = ma.fields.Raw(allow_none=True, metadata={"description": "Any JSON"})
    description = ma.fields.String(validate=_DESCRIPTION_RULES)

    @ma.validates_schema
    def _one_or_the_other(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("required") and "default" in data:
            raise ma.ValidationError("A variable with a default is not required.", "default")

    @ma.post_load
    def _says_whether_required(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {"name": data["name"], "required": "default" not in data, **data}


def _few_and_named_once(variables: list[dict[str, Any]]) -> None:
    if len(variables) > MAXIMUM_VARIABLES:
        raise ma.ValidationError(f"Longer than maximum length {MAXIMUM_VARIABLES}.")
    if len({each["name"] for each in variables}) < len(variables):
        raise ma.ValidationError("Two variables have the same name.")


class NewTemplateSchema(ma.Schema):
    """A submission with gaps."""

    name = ma.fields.String(required=True, validate=_NAME_RULES)
    description = ma.fields.String(load_default="", validate=_DESCRIPTION_RULES)
    type = ma.fields.String(required=True, validate=validate.Length(1, 100))
    payload = ma.fields.Dict(keys=ma.fields.String(), load_default=dict, metadata=_ABOUT_PAYLOAD)
    options = ma.fields.Nested(TemplateOptionsSchema, load_default=dict)
    variables = ma.fields.List(ma.fields.Nested(VariableSchema), load_default=list, validate=_few_and_named_once)
    shared = ma.fields.Boolean(load_default=False, metadata=_ABOUT_SHARED)


class TemplateChangeSchema(ma.Schema):
    """What to change of a template."""

    name = ma.fields.String(validate=_NAME_RULES)
    description = ma.fields.String(validate=_DESCRIPTION_RULES)
    type = ma.fields.String(validate=validate.Length(1, 100))
    payload = ma.fields.Dict(keys=ma.fields.String(), metadata=_ABOUT_PAYLOAD)
    options = ma.fields.Nested(TemplateOptionsSchema)
    variables = ma.fields.List(ma.fields.Nested(VariableSchema), validate=_few_and_named_once)
    shared = ma.fields.Boolean(metadata=_ABOUT_SHARED)


class TemplateSchema(ma.Schema):
    """A submission with gaps."""

    id = ma.fields.UUID(required=True)
    userId = ma.fields.UUID(required=True)
    name = ma.fields.String(required=True)
    description = ma.fields.String(required=True)
    type = ma.fields.String(required=True)
    payload = ma.fields.Dict(
        required=True, allow_none=True, metadata={"description": "Of a sensitive type null for all but the owner"}
    )
    options = ma.fields.Dict(required=True)
    variables = ma.fields.List(ma.fields.Nested(VariableSchema), required=True)
    shared = ma.fields.Boolean(required=True)
    createdAt = ma.fields.DateTime(required=True)
    updatedAt = ma.fields.DateTime(required=True)


class TemplatePageSchema(ma.Schema):
    """A page of templates."""

    data = ma.fields.List(ma.fields.Nested(TemplateSchema), required=True)
    pagination = ma.fields.Nested(PaginationSchema, required=True)


class TemplateFilterSchema(PageArguments):
    """The filters of the list of templates."""

    type = ma.fields.String()
    shared = ma.fields.Boolean()
    q = ma.fields.String(validate=validate.Length(1, 200), metadata={"description": "Part of the name"})


class TemplateRunSchema(ma.Schema):
    """Values for the placeholders of a template."""

    variables = ma.fields.Dict(keys=ma.fields.String(), load_default=dict)
    options = ma.fields.Nested(
        OptionsSchema, load_default=dict, metadata={"description": "What should differ from the template's"}
    )
