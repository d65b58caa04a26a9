"""What an artifact can be made of."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from service.artifacts.errors import InvalidArtifact
from service.artifacts.sources import CHUNK_BYTES, Source, chunks_of, content_type_of


def test_bytes_text_paths_and_files_give_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\x00\xff")
    begun = io.BytesIO(b"before after")
    begun.seek(7)
    sources: list[tuple[Source, bytes]] = [(b"a\x00", b"a\x00"), ("ü", b"\xc3\xbc"), (path, b"\x00\xff"), ("", b"")]
    sources.append((begun, b"after"))
    for source, content in sources:
        assert b"".join(chunks_of(source)) == content
    assert not begun.closed


def test_nothing_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * CHUNK_BYTES + 1))
    with path.open("rb") as file:
        for source in (path.read_bytes(), path, file):
            assert [len(chunk) for chunk in chunks_of(source)] == [CHUNK_BYTES] * 3 + [1]


@pytest.mark.parametrize("source", [None, 5, ["a"], io.StringIO("text"), "half a \ud800 character"])
def test_anything_else_is_refused(source: Source) -> None:
    with pytest.raises(InvalidArtifact):
        list(chunks_of(source))


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("report.pdf", b"", "application/pdf"),
        ("table.csv", "a,b", "text/csv; charset=utf-8"),
        ("table.csv", b"a,b", "text/csv"),
        ("notes", "text", "text/plain; charset=utf-8"),
        ("notes", b"bytes", "application/octet-stream"),
        # What is saved is what was packed, not what is inside.
        ("backup.tar.gz", b"", "application/octet-stream"),
    ],
)
def test_the_content_type_is_guessed_from_the_name(name: str, source: Source, expected: str) -> None:
    assert content_type_of(name, source) == expected
