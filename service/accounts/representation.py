"""A user as the contract writes one in JSON."""

from __future__ import annotations

from typing import Any

from service.accounts.models import User
from service.clock import isoformat
from service.webhooks.actions import legacy_url


def user_json(user: User) -> dict[str, Any]:
    """A user as administrators see one."""
    return {
        "id": str(user.id),
        "organizationId": str(user.organization_id),
        "username": user.username,
        "email": user.email,
        "phone": user.phone,
        "timezone": user.timezone,
        "roles": user.roles,
        "isActive": user.is_active,
        "createdAt": isoformat(user.created_at),
        "updatedAt": isoformat(user.updated_at),
    }


def account_json(user: User) -> dict[str, Any]:
    """A user as he sees himself: with the legacy webhook URL, which nobody else is shown."""
    return {**user_json(user), "webhookUrl": legacy_url(user.id)}
