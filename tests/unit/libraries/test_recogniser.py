"""Which film or episode a file is, by its name."""

from __future__ import annotations

import pytest

from service.libraries.recogniser import EPISODE, FILM, UNKNOWN, recognise
from tests.factories.media_tree import made_files


@pytest.mark.parametrize(
    ("path", "kind", "title", "year", "season", "episode"),
    [
        ("The Quiet Harbour (1999)/harbour.mkv", FILM, "The Quiet Harbour", 1999, None, None),
        ("The.Quiet.Harbour.1999.1080p.BluRay.x264-NOVA.mkv", FILM, "The Quiet Harbour", 1999, None, None),
        ("Films/Été perdu (2001).avi", FILM, "Été perdu", 2001, None, None),
        ("Films/Runner 2049 (2017)/Runner 2049 (2017) [Bluray-1080p].mkv", FILM, "Runner 2049", 2017, None, None),
        ("300 (2006)/300.mkv", FILM, "300", 2006, None, None),
        ("Big Grey Rabbit.mp4", FILM, "Big Grey Rabbit", None, None, None),
        ("Iron Valley/Season 02/Iron.Valley.S02E05.720p.HDTV.x264-NOVA.mkv", EPISODE, "Iron Valley", None, 2, 5),
        ("Iron Valley/Season 2/05 - Breakage.mkv", EPISODE, "Iron Valley", None, 2, 5),
        ("Iron Valley/Season 01/Episode 03.mkv", EPISODE, "Iron Valley", None, 1, 3),
        ("Iron Valley/Season 01/04.mkv", EPISODE, "Iron Valley", None, 1, 4),
        ("Show/1x03 - Pilot.avi", EPISODE, "Show", None, 1, 3),
        ("Iron.Valley.S03E01E02.mkv", EPISODE, "Iron Valley", None, 3, 1),
        ("[Group] Paper Moon Club - 12 [1080p].mkv", EPISODE, "Paper Moon Club", None, None, 12),
        ("IMG_1234.mp4", UNKNOWN, "IMG_1234", None, None, None),
        ("Camera/VID_20210304_101112.mp4", UNKNOWN, "VID_20210304_101112", None, None, None),
        ("f3a9c1d2e4b5.mp4", UNKNOWN, "f3a9c1d2e4b5", None, None, None),
        ("00001.m2ts", UNKNOWN, "00001", None, None, None),
        ("video (12).mp4", UNKNOWN, "video (12)", None, None, None),
        ("The Quiet Harbour (1999)/harbour-trailer.mp4", UNKNOWN, "harbour-trailer", None, None, None),
    ],
)
def test_what_a_name_says(
    path: str, kind: str, title: str, year: int | None, season: int | None, episode: int | None
) -> None:
    found = recognise(path)
    assert (found.kind, found.title, found.year, found.season, found.episode) == (kind, title, year, season, episode)


def test_what_else_a_name_says_is_kept_as_text() -> None:
    details = recognise("Iron.Valley.S03E01E02.The.Letter.1080p.WEB-DL.x264-NOVA.mkv").details
    assert details["resolution"] == "1080p"
    assert details["source"] == "Web"
    assert details["videoCodec"] == "H.264"
    assert details["releaseGroup"] == "NOVA"
    assert details["episodes"] == [1, 2]


@pytest.mark.parametrize(
    "path",
    [
        "(2001).mkv",
        "[].mkv",
        "....mkv",
        "S01E01.mkv",
        "\u202e.mkv",
        "a" * 255 + ".mkv",
        " .mkv",
        "ca\\xff (1990).mkv",
        "/".join(["deep"] * 200) + "/x.mkv",
        "(" * 120 + ".mkv",
        "1 " * 120 + ".mkv",
    ],
)
def test_a_strange_name_is_something(path: str) -> None:
    found = recognise(path)
    assert found.kind in {FILM, EPISODE, UNKNOWN}
    assert found.title


def test_of_made_up_names_nearly_all_are_recognised() -> None:
    files = made_files(120, seed=7)
    wrong = []
    for file in files:
        found = recognise(file.path)
        told = (found.kind, found.year, found.season, found.episode)
        is_right = told == (file.kind, file.year, file.season, file.episode)
        if not is_right or (file.title is not None and found.title.lower() != file.title.lower()):
            wrong.append((file, found))
    assert len(wrong) <= 2, wrong


def test_made_up_names_are_the_same_for_the_same_seed() -> None:
    assert made_files(300, seed=3) == made_files(300, seed=3)
    assert made_files(300, seed=3) != made_files(300, seed=4)
    assert len({file.path for file in made_files(1000)}) == 1000
