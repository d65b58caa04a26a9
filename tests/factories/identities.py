"""The identity that a user's requests have, for calling actions without a request."""

from __future__ import annotations

from service.accounts.identity import Identity
from tests.conftest import Account


def identity_of(account: Account, *roles: str) -> Identity:
    """The identity of a user with these roles, a plain one where none are given."""
    return Identity(
        user_id=account.id,
        organization_id=account.organization_id,
        username=account.username,
        roles=frozenset(roles or ("user",)),
        expires_at=2**31,
    )
