"""Writes of organizations and users."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg2.errors import UniqueViolation
from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from service.accounts.errors import (
    EmailTaken,
    OrganizationExists,
    OwnAccount,
    RegistrationClosed,
    UsernameTaken,
    UserNotFound,
)
from service.accounts.identity import Identity
from service.accounts.models import DEFAULT_ORGANIZATION, Organization, PasswordReset, RefreshToken, User
from service.accounts.passwords import hash_password
from service.accounts.roles import ADMIN, ROLES, USER
from service.audit.actions import record
from service.clock import utcnow
from service.database import transaction
from service.errors import NotAllowed, NotAuthenticated, ValidationFailed
from service.notifications.preferences import write_default_preferences
from service.settings import current_settings
from service.webhooks.actions import set_legacy_webhook

# A reset that has run out still counts against the limit per hour for a while.
RESETS_KEPT = timedelta(days=1)


def create_organization(name: str) -> Organization:
    """A new tenant; raises OrganizationExists."""
    with _unique(), transaction() as session:
        organization = Organization(name=name)
        session.add(organization)
        session.flush()
        record("organization.create", "organization", organization.id, organization_id=organization.id)
    return organization


def default_organization_id() -> UUID:
    """The tenant of people who register themselves, made when it is first needed."""
    with transaction() as session:
        session.execute(insert(Organization).values(name=DEFAULT_ORGANIZATION).on_conflict_do_nothing())
        return session.scalars(select(Organization.id).where(Organization.name == DEFAULT_ORGANIZATION)).one()


def register_user(*, username: str, email: str, password: str) -> User:
    """An ordinary user of the default organization; raises RegistrationClosed, UsernameTaken or EmailTaken."""
    if not current_settings().registration_open:
        raise RegistrationClosed
    password_hash = hash_password(password)
    with _unique(), transaction():
        user = _add_user(username, email, password_hash, default_organization_id(), (USER,))
        record("user.register", "user", user.id, actor_id=user.id, organization_id=user.organization_id)
    return user


def create_user(
    *, username: str, email: str, password: str, organization_id: UUID, roles: Collection[str] = (USER,)
) -> User:
    """A user that an operator makes; `email` in its normal form. Raises UsernameTaken or EmailTaken."""
    password_hash = hash_password(password)
    with _unique(), transaction():
        user = _add_user(username, email, password_hash, organization_id, roles)
        record("user.create", "user", user.id, {"roles": user.roles}, organization_id=organization_id)
    return user


def _add_user(username: str, email: str, password_hash: str, organization_id: UUID, roles: Collection[str]) -> User:
    with transaction() as session:
        user = User(
            organization_id=organization_id,
            username=username,
            email=email,
            password_hash=password_hash,
            roles=_in_order(roles),
        )
        session.add(user)
        session.flush()
        write_default_preferences(user)
    return user


def update_account(identity: Identity, fields: Mapping[str, Any]) -> User:
    """Change one's own `email`, `phone`, `timezone` or `webhook_url`; raises EmailTaken or ValidationFailed."""
    with _unique(), transaction() as session:
        user = session.get(User, identity.user_id, with_for_update={"key_share": True})
        if user is None or not user.is_active:
            raise NotAuthenticated
        if "webhook_url" in fields:
            _set_webhook_url(user, fields["webhook_url"])
        for name in fields.keys() - {"webhook_url"}:
            setattr(user, name, fields[name])
        session.flush()
        if fields:
            record("user.update", "user", user.id, {"fields": sorted(fields)})
    return user


def _set_webhook_url(user: User, url: str | None) -> None:
    try:
        set_legacy_webhook(user.organization_id, user.id, url)
    except ValidationFailed as error:
        messages = (error.errors or {}).get("url", [error.message])
        raise ValidationFailed(errors={"webhookUrl": messages}) from None


def change_user(
    identity: Identity, user_id: UUID, *, roles: Collection[str] | None = None, is_active: bool | None = None
) -> User:
    """Give a user of the administrator's tenant other roles, or (de)activate him; a deactivated one's sessions end.

    Raises UserNotFound, OwnAccount, or NotAllowed when the administrator is none any more.
    """
    with transaction() as session:
        # Two administrators who demote each other at once would leave none: one waits, and is refused.
        session.execute(
            select(Organization.id).where(Organization.id == identity.organization_id).with_for_update(key_share=True)
        )
        actor = session.get(User, identity.user_id, populate_existing=True)
        if actor is None or not actor.is_active or ADMIN not in actor.roles:
            raise NotAllowed
        user = session.get(User, user_id, with_for_update={"key_share": True}, populate_existing=True)
        if user is None or user.organization_id != identity.organization_id:
            raise UserNotFound
        if user is actor and (is_active is False or (roles is not None and ADMIN not in roles)):
            raise OwnAccount
        before = {"roles": user.roles, "isActive": user.is_active}
        if roles is not None:
            user.roles = _in_order(roles)
        if is_active is not None:
            user.is_active = is_active
        after = {"roles": user.roles, "isActive": user.is_active}
        if after != before:
            record("user.change", "user", user.id, {"before": before, "after": after})
        if not user.is_active:
            end_sessions(user.id)
    return user


def end_sessions(user_id: UUID) -> None:
    """Make every refresh token of a user worthless; the caller holds the lock on the user's row."""
    with transaction() as session:
        session.execute(
            update(RefreshToken)
            .where(RefreshToken.user_id == user_id, RefreshToken.revoked_at.is_(None))
            .values(revoked_at=utcnow())
        )


def delete_expired_tokens() -> int:
    """Delete refresh tokens and password resets that have run out; how many."""
    now = utcnow()
    with transaction() as session:
        tokens = session.execute(
            delete(RefreshToken).where(RefreshToken.expires_at < now).returning(RefreshToken.id)
        ).all()
        resets = session.execute(
            delete(PasswordReset).where(PasswordReset.expires_at < now - RESETS_KEPT).returning(PasswordReset.id)
        ).all()
    return len(tokens) + len(resets)


def _in_order(roles: Collection[str]) -> list[str]:
    return [role for role in ROLES if role in roles]


_TAKEN = {
    "uq_users_lower_username": UsernameTaken,
    "uq_users_username": UsernameTaken,
    "uq_users_email": EmailTaken,
    "uq_organizations_name": OrganizationExists,
}


@contextmanager
def _unique() -> Iterator[None]:
    """Tell which of the unique things was taken; the database decides, for two may ask at once."""
    try:
        yield
    except IntegrityError as error:
        if isinstance(error.orig, UniqueViolation) and error.orig.diag.constraint_name in _TAKEN:
            raise _TAKEN[error.orig.diag.constraint_name] from None
        raise
