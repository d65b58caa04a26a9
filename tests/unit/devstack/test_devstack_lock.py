"""Two runs on one folder: the second is told so, and a run that was killed does not count."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from devstack.errors import StackError
from devstack.lock import FolderLock


def test_a_second_run_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    first = FolderLock(tmp_path)
    first.acquire()
    with pytest.raises(StackError) as caught:
        FolderLock(tmp_path).acquire()
    assert f"(process {os.getpid()})" in str(caught.value)
    assert "CARILLON_VAR_DIR" in str(caught.value)
    first.release()


def test_a_released_folder_can_be_taken(tmp_path: Path) -> None:
    for _ in range(2):
        lock = FolderLock(tmp_path)
        lock.acquire()
        lock.release()


def test_a_lock_file_alone_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "stack.lock").write_text(str(os.getpid()))
    lock = FolderLock(tmp_path)
    lock.acquire()
    lock.release()
