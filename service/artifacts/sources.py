"""What an artifact can be made of: bytes, text, a file by its path, an open file."""

from __future__ import annotations

import contextlib
import mimetypes
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from service.artifacts.errors import InvalidArtifact

CHUNK_BYTES = 1024 * 1024
TEXT = "text/plain; charset=utf-8"
UNKNOWN = "application/octet-stream"


class Readable(Protocol):
    """A file that is open in binary mode, or anything that is read like one."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""
        ...


Source = bytes | str | Path | Readable


def chunks_of(source: Source) -> Iterator[bytes | memoryview]:
    """The bytes of a source, an open file's from where it stands; raises InvalidArtifact, and OSError of reading."""
    with contextlib.ExitStack() as stack:
        if isinstance(source, str):
            source = _encoded(source)
        if isinstance(source, bytes):
            view = memoryview(source)
            yield from (view[start : start + CHUNK_BYTES] for start in range(0, len(view), CHUNK_BYTES))
            return
        if isinstance(source, Path):
            source = stack.enter_context(source.open("rb"))
        if not hasattr(source, "read"):
            raise InvalidArtifact(f"An artifact cannot be made of {type(source).__name__}.")
        while chunk := source.read(CHUNK_BYTES):
            if not isinstance(chunk, bytes):
                raise InvalidArtifact("The file must be open in binary mode.")
            yield chunk


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidArtifact("The text holds half of a character.") from None


def content_type_of(name: str, source: Source) -> str:
    """The content type that a name stands for, or else what is known of the source."""
    guessed, encoding = mimetypes.guess_type(name)
    if guessed is None or encoding is not None:
        return TEXT if isinstance(source, str) else UNKNOWN
    return f"{guessed}; charset=utf-8" if isinstance(source, str) and guessed.startswith("text/") else guessed
