"""The roles a user can have."""

from __future__ import annotations

ADMIN = "admin"
OPERATOR = "operator"
USER = "user"

ROLES = (ADMIN, OPERATOR, USER)
