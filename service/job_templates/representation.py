"""A job template as the contract writes it in JSON."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from service.clock import isoformat
from service.job_templates.models import JobTemplate


def template_json(template: JobTemplate, viewer_id: UUID) -> dict[str, Any]:
    """The template, for somebody who may see it."""
    return {
        "id": str(template.id),
        "userId": str(template.user_id),
        "name": template.name,
        "description": template.description,
        "type": template.type,
        "payload": template.shown_payload(viewer_id),
        "options": template.options,
        "variables": template.variables,
        "shared": template.shared,
        "createdAt": isoformat(template.created_at),
        "updatedAt": isoformat(template.updated_at),
    }
