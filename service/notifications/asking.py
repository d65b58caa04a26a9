"""From the loaded body of a request, or the payload of a job, to what is to be sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from service.database import transaction
from service.errors import ValidationFailed
from service.notification_templates.models import NotificationTemplate
from service.notifications.audience import Audience
from service.notifications.sends import NewSend

_SAID = ("type", "title", "message", "category", "data", "actions", "send_at", "expires_at", "variables")


def new_send(body: Mapping[str, Any], organization_id: UUID) -> NewSend:
    """What a body loaded by `NewSendSchema` asks for; raises ValidationFailed for the id of no template."""
    user_ids = [body["user_id"]] if "user_id" in body else body.get("user_ids", ())
    audience = Audience(
        user_ids=tuple(dict.fromkeys(user_ids)),
        roles=tuple(dict.fromkeys(body.get("roles", ()))),
        everybody=body.get("all", False),
    )
    template, locale = _template(body, organization_id)
    return NewSend(
        audience=audience,
        channels=tuple(dict.fromkeys(body["channels"])),
        template=template,
        locale=locale,
        is_critical=body["critical"],
        **{name: body[name] for name in _SAID if name in body},
    )


def _template(body: Mapping[str, Any], organization_id: UUID) -> tuple[str | None, str | None]:
    """Name and locale; those of the version whose id was given, where nothing else is said."""
    if "template_id" not in body:
        return body.get("template"), body.get("locale")
    with transaction() as session:
        found = session.get(NotificationTemplate, body["template_id"])
    if found is None or found.organization_id != organization_id or found.deleted_at is not None:
        raise ValidationFailed(errors={"templateId": ["There is no such notification template."]})
    return found.name, body.get("locale", found.locale)
