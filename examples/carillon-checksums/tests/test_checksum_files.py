"""The body of `checksum-files`, run with Carillon's test kit: no server, no database."""

from __future__ import annotations

import hashlib
from pathlib import Path
from uuid import uuid4

import pytest
from carillon_checksums import folders
from carillon_checksums.jobs import _check, checksum_files

from service.errors import ValidationFailed
from tasks.testing import run_job, run_until_done


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that may be read, with three files."""
    monkeypatch.setenv("CHECKSUM_ROOTS", str(tmp_path))
    root = tmp_path / "files"
    (root / "below").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"first")
    (root / "b.txt").write_bytes(b"")
    (root / "below" / "c.bin").write_bytes(b"x" * 300)
    return root


def test_every_file_gets_its_checksum(folder: Path) -> None:
    run = run_job(checksum_files, {"folder": str(folder)})
    run.assert_completed()
    run.assert_progress_grows()
    first = hashlib.sha256(b"first").hexdigest()
    assert run.result == {"files": 3, "unreadable": []}
    lines = run.artifacts["SHA256SUMS"].text.splitlines()
    assert (len(lines), lines[0]) == (3, f"{first}  a.txt")
    assert run.stages == ["Listing files", "Reading files"]


def test_a_pattern_says_which_files(folder: Path) -> None:
    run = run_job("checksum-files", {"folder": str(folder), "pattern": "*.bin"})
    [line] = run.artifacts["SHA256SUMS"].text.splitlines()
    assert line.endswith("  below/c.bin")


def test_an_empty_folder_is_no_error(folder: Path) -> None:
    run = run_job("checksum-files", {"folder": str(folder), "pattern": "*.none"})
    run.assert_completed()
    run.assert_progress_grows()


def test_a_file_that_cannot_be_read_does_not_stop_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = folders.sha256

    def refuse_one(path: Path, on_chunk: object) -> str:
        if path.name == "a.txt":
            raise PermissionError(13, "Permission denied")
        return read(path, on_chunk)

    monkeypatch.setattr("carillon_checksums.jobs.sha256", refuse_one)
    run = run_job("checksum-files", {"folder": str(folder)})
    run.assert_completed()
    assert run.result == {"files": 2, "unreadable": ["a.txt"]}
    assert ("warning", "a.txt cannot be read: Permission denied") in run.logs


def test_a_cancel_is_obeyed_between_chunks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "CHUNK_BYTES", 100)
    run = run_job("checksum-files", {"folder": str(folder), "pattern": "*.bin"}, cancel_after=2)
    run.assert_cancelled()


def test_a_folder_that_is_gone_is_not_tried_again(folder: Path) -> None:
    [run] = run_until_done("checksum-files", {"folder": str(folder / "gone")})
    run.assert_failed("folder_refused")


def test_a_disk_that_fails_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> list[Path]:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("carillon_checksums.jobs.files_below", fail)
    runs = run_until_done("checksum-files", {"folder": str(folder)})
    assert [run.retry_in for run in runs] == [30, 60, None]
    runs[-1].assert_failed("oserror")


def test_only_folders_below_the_roots_are_accepted(folder: Path) -> None:
    _check(uuid4(), {"folder": str(folder)})
    with pytest.raises(ValidationFailed) as refused:
        _check(uuid4(), {"folder": "/etc"})
    assert list(refused.value.errors) == ["payload.folder"]


def test_a_payload_without_a_folder_is_refused() -> None:
    with pytest.raises(ValidationFailed, match="not valid") as refused:
        run_job("checksum-files", {"pattern": "*"})
    assert refused.value.errors == {"payload.folder": ["Missing data for required field."]}
