"""Reads of users and organizations."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import or_, select

from service.accounts.errors import OrganizationNotFound
from service.accounts.identity import Identity
from service.accounts.models import Organization, User
from service.accounts.representation import user_json
from service.database import db
from service.errors import NotAuthenticated
from service.pagination import Page, paginate


def own_user(identity: Identity) -> User:
    """The user behind a request; raises NotAuthenticated when he has been deactivated since the token was issued."""
    user = db.session.get(User, identity.user_id)
    if user is None or not user.is_active:
        raise NotAuthenticated
    return user


def list_users(
    organization_id: UUID, page: Page, *, q: str | None = None, role: str | None = None, is_active: bool | None = None
) -> dict[str, Any]:
    """A page of a tenant's users in the order they came; `q` is part of a name or an address."""
    query = select(User).where(User.organization_id == organization_id)
    if q:
        query = query.where(or_(User.username.icontains(q, autoescape=True), User.email.icontains(q, autoescape=True)))
    if role:
        query = query.where(User.roles.contains([role]))
    if is_active is not None:
        query = query.where(User.is_active.is_(is_active))
    return paginate(query.order_by(User.id), page, user_json)


def organization_named(name: str) -> Organization:
    """An organization by its name; raises OrganizationNotFound."""
    organization = db.session.scalar(select(Organization).where(Organization.name == name))
    if organization is None:
        raise OrganizationNotFound
    return organization
