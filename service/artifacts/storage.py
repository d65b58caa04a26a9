"""Where the files of artifacts lie: a folder, or a bucket of S3 and its like, by fsspec.

A file is there under its key once it is complete, never in part: in a folder it is written beside its place and
renamed, and S3 shows an object when its upload has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, BinaryIO, NamedTuple
from uuid import UUID

import structlog

from service.settings import current_settings
from service.threads import aside

log = structlog.get_logger(__name__)

CHUNK_BYTES = 256 * 1024
# What is held of a file in remote storage: read ahead, and gathered for a part of an upload (S3 wants 5 MiB or more).
REMOTE_BLOCK_BYTES = 8 * 1024 * 1024
_UNFINISHED = ".part"


class FileKey(NamedTuple):
    """Names a file by ids alone: nothing that a user wrote is part of a path."""

    organization_id: UUID
    job_id: UUID
    artifact_id: UUID


class Storage:
    """The files of artifacts in a file system of fsspec, below `root`; raises what that file system does."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self._files = filesystem
        self._root = root.rstrip("/")
        self._is_local = bool(getattr(filesystem, "local_file", False))

    def _path(self, key: FileKey) -> str:
        return f"{self._root}/{key.organization_id}/{key.job_id}/{key.artifact_id}"

    @contextmanager
    def writing(self, key: FileKey) -> Iterator[BinaryIO]:
        """A file to write to, there under its key when the block has ended well and gone when it has not."""
        with self._writing_here(self._path(key)) if self._is_local else self._uploading(self._path(key)) as file:
            yield file

    @contextmanager
    def _writing_here(self, path: str) -> Iterator[BinaryIO]:
        unfinished = path + _UNFINISHED
        file = self._files.open(unfinished, "wb")
        try:
            yield file
            file.flush()
            # The row that is written next says that the file is there: it must be so after a power failure too.
            os.fsync(file.fileno())
            file.close()
            self._files.mv(unfinished, path)
        except BaseException:
            with contextlib.suppress(OSError):
                # On a full disk it fails, for what it still has to write.
                file.close()
            with contextlib.suppress(OSError):
                self._files.rm_file(unfinished)
            raise

    @contextmanager
    def _uploading(self, path: str) -> Iterator[BinaryIO]:
        file = self._files.open(path, "wb", block_size=REMOTE_BLOCK_BYTES)
        try:
            yield file
            file.close()
        except BaseException:
            # A file that is closed, if only because nobody has it any more, would end its upload.
            file.closed = True
            with contextlib.suppress(Exception):
                file.discard()
            raise

    def open(self, key: FileKey) -> Any:
        """The file, open for reading, with its `size`; raises FileNotFoundError."""
        return aside(self._files.open, self._path(key), "rb", block_size=REMOTE_BLOCK_BYTES)

    def remove(self, keys: Sequence[FileKey]) -> Sequence[FileKey]:
        """Remove files; the keys of those that are not there now, for some may not go at present."""
        return aside(self._remove_here if self._is_local else self._remove_remote, keys)

    def _remove_here(self, keys: Sequence[FileKey]) -> Sequence[FileKey]:
        gone = []
        for key in keys:
            path = self._path(key)
            try:
                for each in (path, path + _UNFINISHED):
                    with contextlib.suppress(FileNotFoundError):
                        self._files.rm_file(each)
            except OSError as error:
                log.warning("file_not_removed", artifact_id=str(key.artifact_id), error=str(error))
                continue
            gone.append(key)
            with contextlib.suppress(OSError):
                # Of the job, if this was the last of its files.
                self._files.rmdir(path.rpartition("/")[0])
        return gone

    def _remove_remote(self, keys: Sequence[FileKey]) -> Sequence[FileKey]:
        try:
            # In one request; keys of objects that are not there are no error.
            self._files.rm([self._path(key) for key in keys])
        except Exception as error:
            log.warning("files_not_removed", files=len(keys), error=str(error))
            return []
        return keys


def storage() -> Storage:
    """The storage of this installation."""
    settings = current_settings()
    # A client of remote storage does not survive a fork.
    return _storage(settings.artifacts_url, json.dumps(settings.artifacts_options or {}), os.getpid())


@cache
def _storage(url: str, options: str, _process: int) -> Storage:
    import fsspec

    _give_real_threads()
    scheme, _, root = url.partition("://")
    usual = {"auto_mkdir": True} if scheme == "file" else {"use_listings_cache": False}
    return Storage(aside(fsspec.filesystem, scheme, **usual, **json.loads(options)), root)


def _give_real_threads() -> None:
    """Have fsspec run its event loop in a real thread where eventlet has patched the process.

    It waits for that loop by an event of `threading`. Eventlet's cannot be set from another thread, and so would be
    noticed with the next look after a second only; real ones are waited for in the threads of `aside`.
    """
    if "eventlet" in sys.modules:
        import fsspec.asyn
        from eventlet import patcher

        if patcher.is_monkey_patched("thread"):
            fsspec.asyn.threading = patcher.original("threading")


class Contents:
    """Some bytes of an open file, in chunks: what a WSGI server sends and closes."""

    def __init__(self, file: Any, start: int, length: int) -> None:
        self._file = file
        self._left = length
        file.seek(start)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._left <= 0:
            raise StopIteration
        chunk: bytes = aside(self._file.read, min(CHUNK_BYTES, self._left))
        if not chunk:
            # The length has been promised: only an end of the connection tells that it is not kept.
            raise EOFError("the file has become shorter")
        self._left -= len(chunk)
        return chunk

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
