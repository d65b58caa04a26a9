"""One run at a time on one folder."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import psutil

from devstack.errors import StackError

_CLEANING_PATIENCE_SECONDS = 30.0


class FolderLock:
    """A lock on a folder of data, which ends with its holder, even one that is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "stack.lock"
        self._file: int | None = None

    @property
    def file(self) -> int:
        """The descriptor that holds the lock."""
        assert self._file is not None
        return self._file

    def acquire(self) -> None:
        """Take the lock; raise `StackError` if another run holds it.

        A run that was killed still holds it through its guard, which cleans up: that is waited for.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + _CLEANING_PATIENCE_SECONDS
        while not _lock(file):
            holder = self._holder()
            if holder or time.monotonic() > deadline:
                os.close(file)
                raise StackError(
                    f"Carillon already runs on the folder {self.folder}{holder}: stop that run, "
                    "or give this one a folder of its own with CARILLON_VAR_DIR."
                )
            time.sleep(0.1)
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        self._file = file

    def release(self) -> None:
        """Give the lock back; without it, do nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _holder(self) -> str:
        text = self._path.read_text().strip()
        if text.isdecimal() and psutil.pid_exists(int(text)):
            return f" (process {text})"
        return ""


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
