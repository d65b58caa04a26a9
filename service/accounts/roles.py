"""The roles a user can have."""

from __future__ import annotations

ADMIN = "admin"
OPERATOR = "operator"
# Sends notifications to others of its tenant; operators and administrators do so without it.
SENDER = "sender"
USER = "user"

ROLES = (ADMIN, OPERATOR, SENDER, USER)
