"""Encryption at rest with keys that rotate: the first key encrypts, every key decrypts."""

from __future__ import annotations

from cryptography.fernet import Fernet, MultiFernet

from service.settings import current_settings


def _fernet() -> MultiFernet:
    return MultiFernet([Fernet(key.encode()) for key in current_settings().encryption_keys])


def encrypt(text: str) -> bytes:
    """The text as a Fernet token."""
    return _fernet().encrypt(text.encode())


def decrypt(token: bytes) -> str:
    """The text of a token; raises cryptography.fernet.InvalidToken when no key fits."""
    return _fernet().decrypt(token).decode()
