"""Who runs the installation: the operators of the first organization, not those of the tenants beside it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from sqlalchemy import select

from service.accounts.identity import Identity, current_identity
from service.accounts.models import DEFAULT_ORGANIZATION, Organization
from service.database import db
from service.errors import NotAllowed

P = ParamSpec("P")
R = TypeVar("R")


def runs_the_installation(identity: Identity) -> bool:
    """Whether somebody may do what concerns all tenants."""
    if not identity.is_operator:
        return False
    name = db.session.scalar(select(Organization.name).where(Organization.id == identity.organization_id))
    return name == DEFAULT_ORGANIZATION


def requires_platform_operator(view: Callable[P, R]) -> Callable[P, R]:
    """Refuse (403) whoever does not run the installation."""

    @wraps(view)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if not runs_the_installation(current_identity()):
            raise NotAllowed
        return view(*args, **kwargs)

    return checked
