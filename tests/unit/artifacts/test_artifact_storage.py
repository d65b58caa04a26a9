"""Files in a folder: complete or not there at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fsspec.implementations.local import LocalFileSystem

from service.artifacts.storage import CHUNK_BYTES, Contents, FileKey, Storage
from service.ids import new_id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose name would lead elsewhere if it were taken for a URL."""
    return tmp_path / "a b%20c#d?e::f"


@pytest.fixture
def storage(folder: Path) -> Storage:
    return Storage(LocalFileSystem(auto_mkdir=True), str(folder))


@pytest.fixture
def key() -> FileKey:
    return FileKey(new_id(), new_id(), new_id())


def write(storage: Storage, key: FileKey, content: bytes) -> None:
    with storage.writing(key) as file:
        file.write(content)


def files_below(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_a_file_lies_under_ids_alone(storage: Storage, key: FileKey, folder: Path) -> None:
    write(storage, key, b"content")
    assert files_below(folder) == [Path(*[str(part) for part in key])]
    with storage.open(key) as file:
        assert (file.size, file.read()) == (7, b"content")


def test_a_file_is_not_there_before_it_is_complete(storage: Storage, key: FileKey) -> None:
    with storage.writing(key) as file:
        file.write(b"half")
        with pytest.raises(FileNotFoundError):
            storage.open(key)
    assert storage.open(key).size == 4


@pytest.mark.parametrize("reason", [ValueError, KeyboardInterrupt])
def test_what_goes_wrong_leaves_nothing(
    storage: Storage, key: FileKey, folder: Path, reason: type[BaseException]
) -> None:
    with pytest.raises(reason), storage.writing(key) as file:
        file.write(b"half")
        raise reason
    assert files_below(folder) == []


class FullDisk(LocalFileSystem):
    """The kernel's own full disk."""

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any) -> Any:
        super()._open(path, mode, block_size, **options).close()
        return super()._open("/dev/full", mode, block_size, **options)


@pytest.mark.skipif(
    not Path("/dev/full").exists() and os.environ.get("CI") != "true",
    reason="Linux has /dev/full, and CI must; other systems that people develop on have none",
)
@pytest.mark.parametrize("size", [10, 1024 * 1024])
def test_a_full_disk_is_noticed_and_leaves_nothing(key: FileKey, folder: Path, size: int) -> None:
    storage = Storage(FullDisk(auto_mkdir=True, skip_instance_cache=True), str(folder))
    with pytest.raises(OSError, match=r"No space left") as raised:
        write(storage, key, bytes(size))
    assert raised.value.errno == errno.ENOSPC
    assert files_below(folder) == []


def test_files_are_removed_with_the_folder_of_their_job(storage: Storage, key: FileKey, folder: Path) -> None:
    other = key._replace(artifact_id=new_id())
    write(storage, key, b"1")
    write(storage, other, b"2")
    assert storage.remove([key]) == [key]
    assert files_below(folder) == [Path(*[str(part) for part in other])]
    missing = key._replace(artifact_id=UUID(int=1))
    # What is not there is gone.
    assert storage.remove([key, other, missing]) == [key, other, missing]
    assert not (folder / str(key.organization_id) / str(key.job_id)).exists()


def test_a_file_that_a_dead_process_did_not_finish_is_removed(storage: Storage, key: FileKey, folder: Path) -> None:
    write(storage, key, b"1")
    path = folder / str(key.organization_id) / str(key.job_id) / str(key.artifact_id)
    path.rename(f"{path}.part")
    assert storage.remove([key]) == [key]
    assert files_below(folder) == []


def test_a_file_that_cannot_be_removed_is_told(storage: Storage, key: FileKey, folder: Path) -> None:
    stubborn = folder / str(key.organization_id) / str(key.job_id) / str(key.artifact_id)
    (stubborn / "below").mkdir(parents=True)
    removable = FileKey(new_id(), new_id(), new_id())
    write(storage, removable, b"1")
    assert storage.remove([key, removable]) == [removable]


def test_contents_are_read_in_pieces(storage: Storage, key: FileKey) -> None:
    content = bytes(range(256)) * 4096
    write(storage, key, content)
    for start, length in ((0, len(content)), (1, 10), (CHUNK_BYTES - 1, 2), (len(content) - 1, 1), (0, 0)):
        contents = Contents(storage.open(key), start, length)
        pieces = list(contents)
        contents.close()
        assert b"".join(pieces) == content[start : start + length]
        assert all(len(piece) <= CHUNK_BYTES for piece in pieces)


def test_a_file_that_shrinks_ends_the_answer_early(storage: Storage, key: FileKey) -> None:
    write(storage, key, b"short")
    contents = Contents(storage.open(key), 0, 10)
    assert next(contents) == b"short"
    with pytest.raises(EOFError):
        next(contents)
