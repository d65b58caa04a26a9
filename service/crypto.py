"""Encryption at rest with keys that rotate: the first key encrypts, every key decrypts."""

from __future__ import annotations

import hmac

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from service.settings import current_settings


def _fernet() -> MultiFernet:
    return MultiFernet([Fernet(key.encode()) for key in current_settings().encryption_keys])


def encrypt(text: str) -> bytes:
    """The text as a Fernet token."""
    return _fernet().encrypt(text.encode())


def decrypt(token: bytes) -> str:
    """The text of a token; raises cryptography.fernet.InvalidToken when no key fits."""
    return _fernet().decrypt(token).decode()


def rotated(token: bytes) -> bytes | None:
    """The same under the first key; None where it is so already. Raises InvalidToken when no key fits."""
    try:
        Fernet(current_settings().encryption_keys[0].encode()).decrypt(token)
    except InvalidToken:
        return _fernet().rotate(token)
    return None


def keyed_digest(text: str) -> bytes:
    """A digest that only who knows SECRET_KEY can compute."""
    return hmac.digest(current_settings().secret_key.encode(), text.encode(), "sha256")
