"""A notification template as the contract writes it in JSON."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from service.clock import isoformat
from service.notification_templates.builtin import Builtin
from service.notification_templates.models import NotificationTemplate
from service.notification_templates.rendering import Rendered


def template_json(template: NotificationTemplate, template_id: UUID) -> dict[str, Any]:
    """A version of the template `template_id`."""
    return {
        "id": str(template_id),
        "name": template.name,
        "locale": template.locale,
        "version": template.version,
        "channel": template.channels[0],
        "channels": template.channels,
        "subject": template.subject,
        "body": template.body,
        "html": template.html,
        "variables": template.variables,
        "createdBy": None if template.created_by is None else str(template.created_by),
        "createdAt": isoformat(template.created_at),
    }


def builtin_json(builtin: Builtin) -> dict[str, Any]:
    """A message of the platform."""
    return {
        "name": builtin.name,
        "description": builtin.description,
        "locale": "en",
        "channels": list(builtin.channels),
        "subject": builtin.subject,
        "body": builtin.body,
        "html": builtin.html,
        "variables": list(builtin.variables),
        "optionalVariables": list(builtin.optional),
    }


def rendered_json(rendered: Rendered) -> dict[str, Any]:
    """What became of a template."""
    return {"subject": rendered.subject, "text": rendered.text, "html": rendered.html}
