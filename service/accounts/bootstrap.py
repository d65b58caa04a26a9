"""The first administrator."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from service.accounts.actions import create_user, default_organization_id
from service.accounts.models import DEFAULT_ORGANIZATION, Organization, User
from service.accounts.passwords import make_up_password
from service.accounts.roles import ADMIN, OPERATOR, USER
from service.accounts.schemas import USERNAME
from service.database import transaction
from service.settings import SettingsError, current_settings

# Any constant serves, if no other lock of this application has it.
LOCK = 7_203_512


@dataclass(frozen=True)
class Administrator:
    """The administrator there is now; `password` only where it has just been made up."""

    username: str
    is_new: bool
    password: str | None = None


def bootstrap_administrator() -> Administrator:
    """See to it that the default organization has an administrator; two processes may ask at once.

    Raises UsernameTaken, EmailTaken, or SettingsError for a name that no user can have.
    """
    settings = current_settings()
    with transaction() as session:
        session.execute(select(func.pg_advisory_xact_lock(LOCK)))
        existing = session.scalar(
            select(User.username)
            .join(Organization)
            .where(Organization.name == DEFAULT_ORGANIZATION, User.roles.contains([ADMIN]), User.is_active)
            .order_by(User.created_at)
        )
        if existing is not None:
            return Administrator(existing, is_new=False)
        username = settings.admin_username
        if not USERNAME.fullmatch(username):
            raise SettingsError("CARILLON_ADMIN_USERNAME must be 3 to 64 letters, digits, dots, dashes or underscores")
        made_up = None if settings.admin_password else make_up_password()
        create_user(
            username=username,
            email=f"{username.lower()}@localhost",
            password=made_up or settings.admin_password,
            organization_id=default_organization_id(),
            roles=(ADMIN, OPERATOR, USER),
        )
    return Administrator(username, is_new=True, password=made_up)
