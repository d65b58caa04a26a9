"""People whom the commands of an installation make: the rules of registration, and a password made up."""

from __future__ import annotations

from service.accounts.passwords import make_up_password
from service.accounts.schemas import RegistrationSchema


def person(username: str, email: str) -> dict[str, str]:
    """Name, address and a password made up; raises ma.ValidationError."""
    given = {"username": username, "email": email, "password": make_up_password()}
    return dict(RegistrationSchema().load(given))


def introduction(someone: dict[str, str]) -> str:
    """What is said of them, once."""
    return f"{someone['username']}, password {someone['password']} (shown only now)."
