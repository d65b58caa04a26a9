"""A new password for who has forgotten the old one, by a link in a mail."""

from __future__ import annotations

import time
from datetime import timedelta

from sqlalchemy import func, select

from service.accounts.actions import end_sessions
from service.accounts.errors import InvalidResetToken
from service.accounts.models import PasswordReset, User
from service.accounts.passwords import hash_password
from service.accounts.reset_tokens import fits, reset_id_of
from service.audit.actions import record
from service.clock import utcnow
from service.database import transaction
from service.errors import ValidationFailed
from service.notification_templates.builtin import PASSWORD_RESET
from service.notifications.channel_messages import EMAIL, queue_message

LIFETIME = timedelta(hours=1)
REQUESTS_PER_HOUR = 3
# Longer than the writing takes, so that the time of an answer does not tell whether an address is known.
ANSWER_SECONDS = 0.25


def forgot_password(email: str) -> None:
    """Have a link sent if the address is somebody's; takes a quarter of a second either way."""
    began = time.monotonic()
    try:
        _request_reset(email)
    finally:
        time.sleep(max(0.0, began + ANSWER_SECONDS - time.monotonic()))


def _request_reset(email: str) -> None:
    with transaction() as session:
        user = session.scalar(select(User).where(User.email == email).with_for_update(key_share=True))
        if user is None or not user.is_active:
            return
        now = utcnow()
        recent = select(func.count()).where(
            PasswordReset.user_id == user.id, PasswordReset.created_at > now - timedelta(hours=1)
        )
        if session.scalars(recent).one() >= REQUESTS_PER_HOUR:
            return
        reset = PasswordReset(user_id=user.id, created_at=now, expires_at=now + LIFETIME)
        session.add(reset)
        session.flush()
        queue_message(user.id, EMAIL, PASSWORD_RESET, {"resetId": str(reset.id)})
        record("password.forgot", "user", user.id, organization_id=user.organization_id)


def reset_password(token: str, password: str) -> None:
    """Set a new password and end the user's sessions; raises InvalidResetToken or ValidationFailed."""
    with transaction():
        _redeemable(token)
    # Hashed only for a good token, and between transactions: it takes long.
    password_hash = hash_password(password)
    with transaction():
        reset, user = _redeemable(token)
        if password.lower() == user.username.lower():
            raise ValidationFailed(errors={"password": ["The password must differ from the user name."]})
        user.password_hash = password_hash
        reset.used_at = utcnow()
        end_sessions(user.id)
        record("password.reset", "user", user.id, actor_id=user.id, organization_id=user.organization_id)


def _redeemable(token: str) -> tuple[PasswordReset, User]:
    """The reset of a token and its user, whose row is locked; raises InvalidResetToken."""
    reset_id = reset_id_of(token)
    with transaction() as session:
        user = session.scalar(
            select(User)
            .join(PasswordReset, PasswordReset.user_id == User.id)
            .where(PasswordReset.id == reset_id)
            .with_for_update(of=User, key_share=True)
            .execution_options(populate_existing=True)
        )
        reset = session.get(PasswordReset, reset_id, populate_existing=True)
    if user is None or reset is None or reset.used_at is not None or reset.expires_at <= utcnow():
        raise InvalidResetToken
    if not user.is_active or not fits(token, reset_id, user.password_hash):
        raise InvalidResetToken
    return reset, user
