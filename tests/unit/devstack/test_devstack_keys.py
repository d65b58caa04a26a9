"""Generated secrets: private, usable, and the same at the next start."""

from __future__ import annotations

import stat
from pathlib import Path

from cryptography.fernet import Fernet

from devstack.keys import kept_password, kept_secrets


def test_secrets_are_made_once_and_readable_by_their_owner_only(tmp_path: Path) -> None:
    first = kept_secrets(tmp_path)
    assert set(first) == {"SECRET_KEY", "ENCRYPTION_KEYS"}
    assert stat.S_IMODE((tmp_path / "secrets.env").stat().st_mode) == 0o600
    assert kept_secrets(tmp_path) == first


def test_secrets_meet_what_the_application_asks_for(tmp_path: Path) -> None:
    made = kept_secrets(tmp_path)
    Fernet(made["ENCRYPTION_KEYS"].encode())
    assert len(made["SECRET_KEY"]) >= 32


def test_every_folder_has_its_own_secrets(tmp_path: Path) -> None:
    assert kept_secrets(tmp_path / "a") != kept_secrets(tmp_path / "b")


def test_secrets_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "secrets.env.new").write_text("SECRET_KEY=half")
    assert kept_secrets(tmp_path)["SECRET_KEY"] != "half"
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.env"]


def test_a_password_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "password"
    assert kept_password(path) == kept_password(path) != ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
