"""Secrets made once and kept in files that only their owner can read."""

from __future__ import annotations

import os
import secrets
from base64 import urlsafe_b64encode
from pathlib import Path

from dotenv import dotenv_values


def kept_secrets(var_folder: Path) -> dict[str, str]:
    """Return SECRET_KEY and ENCRYPTION_KEYS of this folder, made at the first call.

    ENCRYPTION_KEYS is a Fernet key: 32 bytes, URL-safe base64.
    """
    path = var_folder / "secrets.env"
    if not path.exists():
        write_private(
            path,
            "# Made at the first start. Without these keys what is stored encrypted cannot be read again.\n"
            f"SECRET_KEY={secrets.token_urlsafe(48)}\n"
            f"ENCRYPTION_KEYS={urlsafe_b64encode(secrets.token_bytes(32)).decode()}\n",
        )
    return {name: value for name, value in dotenv_values(path).items() if value}


def kept_password(path: Path) -> str:
    """Return the password kept in this file, made at the first call."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24))
    return path.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)
