"""Who `carillon login` has logged in: a session for each server, in a file that only its owner can read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from service.client import Session, Tokens
from service.client.credentials import Ask, refreshed
from service.commands.refusals import Refused


def current_url() -> str | None:
    """The server of the newest login."""
    url: str | None = _read()["current"]
    return url


def kept_tokens(url: str) -> Tokens | None:
    """The tokens of the session at a server, if there is one."""
    kept = _read()["sessions"].get(url)
    return None if kept is None else Tokens(**kept)


def keep(url: str, tokens: Tokens | None, *, is_current: bool = True) -> None:
    """Keep the tokens of a session, or forget it, for None."""
    with _locked():
        _keep(url, tokens, is_current=is_current)


class KeptSession(Session):
    """The session of the file; its tokens are renewed once, however many commands run at the same time."""

    def __init__(self, url: str, tokens: Tokens) -> None:
        super().__init__(tokens)
        self._url = url

    def renew(self, tokens: Tokens | None, ask: Ask) -> Tokens | None:
        """What another command has renewed meanwhile, or the next tokens; None when the session has ended."""
        with _locked():
            kept = kept_tokens(self._url)
            if kept is None or kept != tokens:
                return kept
            fresh = refreshed(kept, ask)
            if fresh is not None:
                _keep(self._url, fresh, is_current=False)
            return fresh


def _keep(url: str, tokens: Tokens | None, *, is_current: bool) -> None:
    kept = _read()
    if tokens is None:
        kept["sessions"].pop(url, None)
    else:
        kept["sessions"][url] = asdict(tokens)
    if is_current:
        kept["current"] = url if tokens else next(iter(kept["sessions"]), None)
    _write(kept)


def _path() -> Path:
    return Path(click.get_app_dir("carillon")) / "sessions.json"


def _read() -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads(_path().read_text())
    except FileNotFoundError:
        return {"current": None, "sessions": {}}
    except ValueError:
        raise Refused(f"{_path()} cannot be read: delete it and log in again.") from None
    return kept


def _write(kept: dict[str, Any]) -> None:
    """Whole or not at all."""
    draft = _path().with_suffix(".new")
    draft.unlink(missing_ok=True)
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w") as stream:
        json.dump(kept, stream, indent=2)
    draft.replace(_path())


@contextmanager
def _locked() -> Iterator[None]:
    """Keep other commands from changing the file, where the system has locks."""
    folder = _path().parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(folder / "sessions.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(file)
        yield
    finally:
        os.close(file)


def _lock(file: int) -> None:
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(file, fcntl.LOCK_EX)
