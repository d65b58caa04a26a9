"""From the loaded body of a request, or the payload of a job, to what is to be sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.notifications.audience import Audience
from service.notifications.sends import NewSend

_SAID = (
    "type",
    "title",
    "message",
    "category",
    "data",
    "actions",
    "send_at",
    "expires_at",
    "template",
    "template_id",
    "locale",
    "variables",
)


def new_send(body: Mapping[str, Any]) -> NewSend:
    """What a body loaded by `NewSendSchema` asks for."""
    user_ids = [body["user_id"]] if "user_id" in body else body.get("user_ids", ())
    audience = Audience(
        user_ids=tuple(dict.fromkeys(user_ids)),
        roles=tuple(dict.fromkeys(body.get("roles", ()))),
        everybody=body.get("all", False),
    )
    return NewSend(
        audience=audience,
        channels=tuple(dict.fromkeys(body["channels"])),
        is_critical=body["critical"],
        **{name: body[name] for name in _SAID if name in body},
    )
