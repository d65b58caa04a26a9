"""The body of `library-scan`: what it tells, what it remembers, how it ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event, select

from service.database import db
from service.ids import new_id
from service.libraries import inventory, scan
from service.libraries.actions import create_library, delete_library
from service.libraries.models import Library, MediaItem
from service.settings import current_settings
from tasks.jobs.media.library_scan import library_scan
from tasks.testing import JobRun, run_job
from tests.conftest import Account, MakeUser
from tests.factories.identities import identity_of
from tests.factories.media_tree import made_files, write_files

pytestmark = pytest.mark.usefixtures("in_app")

FILM = "Films/The Quiet Harbour (1999)/The Quiet Harbour (1999) [1080p].mkv"
EPISODE = "Series/Iron Valley/Season 02/Iron Valley - S02E05 - Pilot.mkv"
OTHER = "IMG_1234.mp4"


@pytest.fixture
def folder() -> Path:
    """A new folder where libraries may lie, with three files."""
    path = current_settings().media_roots[0] / str(new_id())
    lay(path, FILM, EPISODE, OTHER)
    return path


def lay(root: Path, *paths: str) -> None:
    """Make files of a few bytes."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


@pytest.fixture
def guessed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that were really looked at, as they come."""
    paths: list[str] = []
    recognise = scan.recognise
    monkeypatch.setattr(scan, "recognise", lambda path: (paths.append(path), recognise(path))[1])
    return paths


def library(user: Account, folder: Path) -> UUID:
    """A library of a user."""
    return create_library(identity_of(user), name=str(new_id()), path=str(folder)).id


def attempt(user: Account, library_id: UUID, **options: Any) -> JobRun:
    """An attempt in this process, however it ends."""
    return run_job(library_scan, {"libraryId": str(library_id)}, user_id=user.id, **options)


def run(user: Account, library_id: UUID) -> JobRun:
    """An attempt that completes."""
    done = attempt(user, library_id)
    done.assert_completed()
    return done


def items(library_id: UUID) -> dict[str, MediaItem]:
    """What is remembered of a library, by path."""
    db.session.rollback()
    db.session.expire_all()
    return {item.path: item for item in db.session.scalars(select(MediaItem).where(MediaItem.library_id == library_id))}


def news(result: dict[str, Any]) -> dict[str, int]:
    """What of a result counts news, without the noughts."""
    names = ("added", "changed", "gone", "returned", "unchanged")
    return {name: result[name] for name in names if result[name]}


def test_what_is_told_and_what_is_remembered(make_user: MakeUser, client: FlaskClient, folder: Path) -> None:
    user = make_user()
    library_id = library(user, folder)
    done = run(user, library_id)
    assert done.result == {
        "directories": 6,
        "files": 3,
        "added": 3,
        "changed": 0,
        "gone": 0,
        "returned": 0,
        "unchanged": 0,
        "films": 1,
        "episodes": 1,
        "unreadable": [],
        "unreadableCount": 0,
    }
    assert [(each["current"], each["total"], each["percentage"]) for each in done.progress] == [
        (1, 6, 16.7),
        (2, 6, 33.3),
        (3, 6, 50),
        (4, 6, 66.7),
        (5, 6, 83.3),
        (6, 6, 100),
    ]
    assert done.progress[2]["message"] == "Scanning directory 3 of 6"
    assert done.progress[2]["detail"] == "The Quiet Harbour (1999)"
    found = items(library_id)
    film, episode, other = found[FILM], found[EPISODE], found[OTHER]
    assert (film.kind, film.title, film.year, film.details["resolution"]) == (
        "film",
        "The Quiet Harbour",
        1999,
        "1080p",
    )
    assert (episode.kind, episode.title, episode.season, episode.episode) == ("episode", "Iron Valley", 2, 5)
    assert (other.kind, other.title) == ("unknown", "IMG_1234")
    assert film.size_bytes == len(FILM)
    assert db.session.get_one(Library, library_id).last_scanned_at is not None

    def listed(query: str) -> list[str]:
        answer = client.get(f"/api/libraries/{library_id}/items?{query}", headers=user.headers)
        assert answer.status_code == 200
        return [item["path"] for item in answer.json["data"]]

    assert listed("") == [OTHER, EPISODE, FILM]
    assert listed("kind=film") == [FILM]
    assert listed("q=quiet") == [FILM]
    assert listed("q=%25") == []
    assert listed("gone=true") == []
    assert listed("limit=1&page=2") == [EPISODE]


def test_a_second_scan_guesses_nothing_again(make_user: MakeUser, folder: Path, guessed: list[str]) -> None:
    user = make_user()
    library_id = library(user, folder)
    run(user, library_id)
    assert len(guessed) == 3
    result = run(user, library_id).result
    assert len(guessed) == 3
    assert news(result) == {"unchanged": 3}
    assert (result["films"], result["episodes"], result["files"]) == (1, 1, 3)


def test_changed_gone_and_returned(make_user: MakeUser, folder: Path, guessed: list[str], tmp_path: Path) -> None:
    user = make_user()
    library_id = library(user, folder)
    run(user, library_id)
    before = {path: (item.id, item.first_seen_at, item.changed_at) for path, item in items(library_id).items()}
    (folder / FILM).write_bytes(b"a better copy")
    shutil.move(folder / EPISODE, tmp_path / "episode.mkv")
    result = run(user, library_id).result
    assert news(result) == {"changed": 1, "gone": 1, "unchanged": 1}
    after = items(library_id)
    assert (after[FILM].id, after[FILM].first_seen_at) == before[FILM][:2]
    assert after[FILM].changed_at > before[FILM][2]
    assert after[FILM].size_bytes == len(b"a better copy")
    assert after[EPISODE].gone_at is not None
    assert news(run(user, library_id).result) == {"unchanged": 2}
    guessed.clear()
    shutil.move(tmp_path / "episode.mkv", folder / EPISODE)
    result = run(user, library_id).result
    assert news(result) == {"returned": 1, "unchanged": 2}
    assert guessed == []
    assert items(library_id)[EPISODE].gone_at is None
    assert items(library_id)[EPISODE].id == before[EPISODE][0]


def test_what_lies_in_an_unreadable_folder_is_not_gone(
    make_user: MakeUser, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = make_user()
    library_id = library(user, folder)
    run(user, library_id)
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        # The tests may run as root, whom no permission bits keep out.
        if str(path).endswith("/Iron Valley"):
            raise PermissionError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    done = run(user, library_id)
    assert (done.result["unreadable"], done.result["unreadableCount"]) == (["Series/Iron Valley"], 1)
    assert news(done.result) == {"unchanged": 2}
    assert items(library_id)[EPISODE].gone_at is None
    assert done.logs == [("warning", "Directory cannot be read: Series/Iron Valley")]


def test_names_that_are_no_text_are_remembered(make_user: MakeUser, folder: Path) -> None:
    odd = os.fsencode(folder) + b"/caf\xe9 \xf0\x9f\x8e\xac (2010).mkv"
    Path(os.fsdecode(odd)).write_bytes(b"film")
    (folder / ("\\" * 20 + "\"'\n\t\x7f%s (2011).mkv")).write_bytes(b"film")
    user = make_user()
    library_id = library(user, folder)
    assert run(user, library_id).result["added"] == 5
    assert "caf\\xe9 🎬 (2010).mkv" in items(library_id)
    assert news(run(user, library_id).result) == {"unchanged": 5}


def test_a_thousand_files_take_few_statements(make_user: MakeUser, monkeypatch: pytest.MonkeyPatch) -> None:
    user = make_user()
    root = current_settings().media_roots[0] / str(new_id())
    files = made_files(1000, seed=5)
    write_files(root, files)
    known = {file.path: file for file in files}
    # What guessing costs is not the question here.
    monkeypatch.setattr(
        scan,
        "recognise",
        lambda path: scan.Recognition(known[path].kind, known[path].title or "?", known[path].year),
    )
    library_id = library(user, root)
    with statements() as counted:
        result = run(user, library_id).result
    assert news(result) == {"added": 1000}
    assert result["films"] == sum(file.kind == "film" for file in files)
    assert result["episodes"] == sum(file.kind == "episode" for file in files)
    assert len(counted) < 30
    with statements() as counted:
        assert news(run(user, library_id).result) == {"unchanged": 1000}
    assert len(counted) < 20
    shutil.rmtree(root / "Films")
    films = sum(file.path.startswith("Films/") for file in files)
    with statements() as counted:
        assert news(run(user, library_id).result) == {"gone": films, "unchanged": 1000 - films}
    assert len(counted) < 20


class statements:
    """The statements that our database is sent inside."""

    def __enter__(self) -> list[str]:
        self._seen: list[str] = []
        event.listen(db.engine, "before_cursor_execute", self._note)
        return self._seen

    def __exit__(self, *_: object) -> None:
        event.remove(db.engine, "before_cursor_execute", self._note)

    def _note(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        self._seen.append(statement)


def test_a_library_removed_while_it_is_scanned(make_user: MakeUser, folder: Path) -> None:
    user = make_user()
    library_id = library(user, folder)

    def remove_at_third(report: dict[str, Any]) -> None:
        if report["current"] == 3:
            delete_library(library_id, identity_of(user))

    attempt(user, library_id, on_progress=remove_at_third).assert_failed("library_not_found")
    assert items(library_id) == {}
    attempt(user, library_id).assert_failed("library_not_found")


def test_a_folder_that_is_away_leaves_everything_as_it_was(make_user: MakeUser, folder: Path, tmp_path: Path) -> None:
    user = make_user()
    library_id = library(user, folder)
    run(user, library_id)
    shutil.move(folder, tmp_path / "unplugged")
    attempt(user, library_id).assert_retrying("library_unavailable")
    assert all(item.gone_at is None for item in items(library_id).values())
    # A link that was put in its place.
    folder.symlink_to(tmp_path / "unplugged")
    attempt(user, library_id).assert_failed("library_refused")


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Batches of two files."""
    monkeypatch.setattr(inventory, "BATCH", 2)
    monkeypatch.setattr(scan, "BATCH", 2)
    yield


@pytest.mark.usefixtures("small_batches")
def test_a_scan_that_is_cut_short_has_not_worked_in_vain(make_user: MakeUser, folder: Path, guessed: list[str]) -> None:
    user = make_user()
    library_id = library(user, folder)
    attempt(user, library_id, cancel_after=5).assert_cancelled()
    assert set(items(library_id)) == {OTHER, FILM}
    guessed.clear()
    assert news(run(user, library_id).result) == {"added": 1, "unchanged": 2}
    assert guessed == [EPISODE]


def test_a_library_that_is_too_large(make_user: MakeUser, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = make_user()
    library_id = library(user, folder)
    monkeypatch.setattr(scan, "MAXIMUM_FILES", 2)
    refused = attempt(user, library_id)
    refused.assert_failed("library_too_large")
    assert "more than 2" in refused.error["message"]
