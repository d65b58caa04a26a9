"""Logging in, staying in, logging out.

Whoever writes refresh tokens holds the lock on the row of their user, so that a token made at the moment of a
password reset does not outlive it. It is FOR NO KEY UPDATE: jobs that refer to the user are written meanwhile.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session as DatabaseSession

from service.accounts.errors import AccountDeactivated
from service.accounts.models import RefreshToken, User
from service.accounts.passwords import hash_password, is_outdated, verify_password
from service.accounts.throttle import count_attempt, forgive_attempts
from service.accounts.tokens import issue_access_token
from service.audit.actions import record
from service.clock import utcnow
from service.database import transaction
from service.errors import InvalidCredentials, InvalidToken, TokenExpired
from service.ids import new_id
from service.settings import current_settings

log = structlog.get_logger(__name__)

TOKEN_BYTES = 32


@dataclass(frozen=True)
class Session:
    """What a client gets to act as a user; `expires_in` is the life of the access token in seconds."""

    user: User
    access_token: str
    refresh_token: str
    expires_in: int


def log_in(login: str, password: str, address: str | None) -> Session:
    """Open a session by user name or e-mail address.

    Raises InvalidCredentials, AccountDeactivated (only to who knows the password) or RateLimited.
    """
    count_attempt(login, address)
    with transaction() as database:
        found = database.execute(
            select(User.id, User.organization_id, User.password_hash).where(
                or_(func.lower(User.username) == login.lower(), User.email == login.lower())
            )
        ).first()
    # Between transactions: hashing takes long, and the connection is wanted elsewhere.
    if not verify_password(found.password_hash if found else None, password):
        record(
            "auth.login_failed",
            "user",
            found.id if found else None,
            organization_id=found.organization_id if found else None,
        )
        raise InvalidCredentials
    assert found is not None
    fresh_hash = hash_password(password) if is_outdated(found.password_hash) else found.password_hash
    with transaction() as database:
        user = _locked_user(database, found.id)
        if user is None or user.password_hash != found.password_hash:
            raise InvalidCredentials
        is_active = user.is_active
        if is_active:
            user.password_hash = fresh_hash
            session = _open(database, user, new_id())
        _record("auth.login" if is_active else "auth.login_refused", user)
    if not is_active:
        raise AccountDeactivated
    forgive_attempts(login, address)
    return session


def refresh(refresh_token: str) -> Session:
    """The next tokens of a session, for a refresh token that is hereby used up.

    Raises InvalidToken or TokenExpired. A token that was used before betrays a theft, and its whole family ends; but
    not where both uses were under way at once: two tabs of one browser do that, and the second is only refused.
    """
    with transaction() as database:
        user, token = _find(database, refresh_token)
        if token.used_at is None:
            if token.expires_at <= utcnow():
                raise TokenExpired
            # By the database's clock, to be compared with the start of other transactions.
            token.used_at = func.clock_timestamp()
            return _open(database, user, token.family)
        began = database.scalars(select(func.now())).one()
        if token.used_at < began:
            _end_family(database, token.family)
            _record("auth.refresh_reused", user)
            log.warning("refresh_token_reused", user_id=str(user.id))
    raise InvalidToken


def log_out(refresh_token: str) -> None:
    """End the session of a refresh token; one that is unknown or has ended is no error."""
    with transaction() as database:
        try:
            user, token = _find(database, refresh_token)
        except InvalidToken:
            return
        _end_family(database, token.family)
        _record("auth.logout", user)


def _find(database: DatabaseSession, refresh_token: str) -> tuple[User, RefreshToken]:
    """The token's row and its user, locked; raises InvalidToken for one that is unknown or revoked."""
    with_hash = RefreshToken.token_hash == _hash(refresh_token)
    user_id = database.scalar(select(RefreshToken.user_id).where(with_hash))
    user = _locked_user(database, user_id) if user_id is not None else None
    token = database.scalar(select(RefreshToken).where(with_hash).execution_options(populate_existing=True))
    if user is None or token is None or token.revoked_at is not None or not user.is_active:
        raise InvalidToken
    return user, token


def _locked_user(database: DatabaseSession, user_id: UUID) -> User | None:
    return database.get(User, user_id, with_for_update={"key_share": True}, populate_existing=True)


def _open(database: DatabaseSession, user: User, family: UUID) -> Session:
    refresh_token = secrets.token_urlsafe(TOKEN_BYTES)
    access_token, expires_in = issue_access_token(user)
    database.add(
        RefreshToken(
            user_id=user.id,
            family=family,
            token_hash=_hash(refresh_token),
            expires_at=utcnow() + timedelta(days=current_settings().refresh_token_days),
        )
    )
    return Session(user, access_token, refresh_token, expires_in)


def _end_family(database: DatabaseSession, family: UUID) -> None:
    database.execute(
        update(RefreshToken)
        .where(RefreshToken.family == family, RefreshToken.revoked_at.is_(None))
        .values(revoked_at=utcnow())
    )


def _record(action: str, user: User) -> None:
    record(action, "user", user.id, actor_id=user.id, organization_id=user.organization_id)


def _hash(refresh_token: str) -> bytes:
    # The token is random enough to need no slow hash.
    return hashlib.sha256(refresh_token.encode()).digest()
