"""What can go wrong with notification templates."""

from __future__ import annotations

from collections.abc import Iterable

from service.errors import Conflict, NotFound, ValidationFailed


class TemplateNotFound(NotFound):
    """There is no such notification template."""

    code = "notification_template_not_found"


class TemplateExists(Conflict):
    """There is a notification template of this name and locale already."""

    code = "notification_template_exists"


class TooManyTemplates(Conflict):
    """The organization has as many notification templates as it may have."""

    code = "too_many_notification_templates"


class TemplateVariablesMissing(ValidationFailed):
    """The template needs variables that were not given."""

    code = "template_variables_missing"

    def __init__(self, names: Iterable[str]) -> None:
        missing = sorted(names)
        message = f"The template needs variables that were not given: {', '.join(missing)}."
        super().__init__(
            message, errors={f"variables.{name}": ["Missing data for required field."] for name in missing}
        )


class TemplateFailed(ValidationFailed):
    """The template could not be rendered with these variables."""

    code = "template_failed"
