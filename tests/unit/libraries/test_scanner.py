"""What is found below a folder, and what is not."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.libraries.errors import LibraryUnavailable
from service.libraries.paths import PathRefused, allowed_folder, library_folder, text_of
from service.libraries.scanner import EPOCH, LATEST, find_folders, find_videos


def lay(root: Path, *paths: str) -> None:
    """Make files of a few bytes."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"film")


def videos(root: Path) -> list[str]:
    """The paths of the videos of a library, in the order of a scan."""
    return [video.path for folder in find_folders(root).folders for video in find_videos(folder)]


def test_folders_come_by_name_with_the_library_itself_first(tmp_path: Path) -> None:
    lay(tmp_path, "b/x.mkv", "a/deep/y.mkv", "a/z.mkv")
    assert [folder.path for folder in find_folders(tmp_path).folders] == ["", "a", "a/deep", "b"]
    assert videos(tmp_path) == ["a/z.mkv", "a/deep/y.mkv", "b/x.mkv"]


def test_only_videos_count_and_nothing_hidden(tmp_path: Path) -> None:
    lay(tmp_path, "film.MKV", "film.srt", "cover.jpg", ".hidden.mkv", ".trash/x.mkv", "@eaDir/x.mkv", "no-extension")
    (tmp_path / "folder.mkv").mkdir()
    assert videos(tmp_path) == ["film.MKV"]


def test_no_link_is_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "library", tmp_path / "elsewhere"
    lay(inside, "film.mkv", "sub/other.mkv")
    lay(outside, "secret.mkv")
    (inside / "out").symlink_to(outside)
    (inside / "round").symlink_to(inside)
    (inside / "secret.mkv").symlink_to(outside / "secret.mkv")
    (inside / "broken.mkv").symlink_to(outside / "nothing.mkv")
    assert videos(inside) == ["film.mkv", "sub/other.mkv"]


def test_a_pipe_is_no_video(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mkv")
    assert videos(tmp_path) == []


def test_an_unreadable_folder_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path, "open/a.mkv", "shut/b.mkv", "shut/deep/c.mkv")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        # The tests may run as root, whom no permission bits keep out.
        if Path(path).name == "shut":
            raise PermissionError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    findings = find_folders(tmp_path)
    assert findings.unreadable == {"shut"}
    assert [folder.path for folder in findings.folders] == ["", "open", "shut"]


def test_a_library_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(LibraryUnavailable):
        find_folders(tmp_path / "unmounted")


def test_a_name_that_is_no_text_is_written_as_text(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9 (2010).mkv"
    Path(os.fsdecode(name)).write_bytes(b"film")
    assert videos(tmp_path) == ["caf\\xe9 (2010).mkv"]
    assert text_of("café") == "café"


def test_a_path_that_no_index_takes_is_an_error_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(10):
        folder /= "é" * 120
    folder.mkdir(parents=True)
    (folder / "film.mkv").write_bytes(b"film")
    deepest = find_folders(tmp_path).folders[-1]
    with pytest.raises(OSError, match="too long"):
        list(find_videos(deepest))


@pytest.mark.parametrize(
    ("seconds", "moment"),
    [(1_600_000_000.123456, datetime(2020, 9, 13, 12, 26, 40, 123456, tzinfo=UTC)), (-5.0, EPOCH)],
)
def test_the_time_of_a_file_to_the_microsecond(tmp_path: Path, seconds: float, moment: datetime) -> None:
    lay(tmp_path, "film.mkv")
    os.utime(tmp_path / "film.mkv", ns=(0, round(seconds * 1_000_000) * 1000))
    (folder,) = find_folders(tmp_path).folders
    (video,) = find_videos(folder)
    assert video.modified_at == moment
    assert moment < LATEST


def test_a_library_must_be_a_folder_below_a_root(tmp_path: Path) -> None:
    root, outside = tmp_path / "media", tmp_path / "private"
    lay(root, "films/a.mkv")
    outside.mkdir()
    (root / "out").symlink_to(outside)
    assert library_folder(str(root / "films"), [root]) == (root / "films").resolve()
    assert library_folder(str(root), [root]) == root.resolve()
    for refused in (
        outside,
        root / "out",
        root / ".." / "private",
        root / "nothing",
        root / "films" / "a.mkv",
        Path("films"),
        tmp_path / "media2",
    ):
        with pytest.raises(PathRefused):
            library_folder(str(refused), [root])
    with pytest.raises(PathRefused):
        library_folder(f"{root}/\x00", [root])
    assert allowed_folder(root / "out", [root]) is None
