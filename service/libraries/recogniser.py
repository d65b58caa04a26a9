"""Tells from the name of a file which film or episode it is; the names of its folders help."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

FILM = "film"
EPISODE = "episode"
UNKNOWN = "unknown"
KINDS = (FILM, EPISODE, UNKNOWN)

# The title of a film or series is found in the two folders above the file, or nowhere.
FOLDERS_THAT_HELP = 2
MAXIMUM_TITLE = 500
# Longer names are no names: guessing costs more than linearly.
MAXIMUM_GUESSED = 400

_YEAR_IN_BRACKETS = re.compile(r"\S.*[(\[](?:19|20)\d\d[)\]]")
_EPISODE_MARK = re.compile(
    r"\bs\d{1,3}[ ._-]*e\d|\b\d{1,2}x\d{2,3}\b|\bs\d{1,2}\b|\b(?:episode|ep|part)[ ._-]*\d"
    r"|\b(?:season|series|saison|staffel|temporada|specials?|disc)\b",
    re.IGNORECASE,
)
# What cameras, telephones and discs call their files, or nobody thought about.
_MADE_BY_MACHINE = re.compile(
    r"(?:(?:img|vid|dsc[fn]?|mov|mvi|gopr|gh|gx|pxl|dji|whatsapp[ ._-]video|screen[ ._-]?recording|clip|video|movie"
    r"|film|file|track|title|vts|untitled|new|output|capture)[ ._()-]*)?[\d ._()-]*(?:[ ._-]at[ ._-][\d ._-]+)?",
    re.IGNORECASE,
)
_HEXADECIMAL = re.compile(r"(?=.*\d)[0-9a-f]{8}[0-9a-f-]*", re.IGNORECASE)
# A sample or a trailer of a film is not the film.
_EXTRAS = {"Sample", "Trailer"}

_DETAILS = {
    "screen_size": "resolution",
    "source": "source",
    "video_codec": "videoCodec",
    "audio_codec": "audioCodec",
    "audio_channels": "audioChannels",
    "color_depth": "colorDepth",
    "edition": "edition",
    "release_group": "releaseGroup",
    "streaming_service": "streamingService",
    "language": "language",
    "subtitle_language": "subtitleLanguage",
    "episode_title": "episodeTitle",
    "date": "date",
    "part": "part",
    "cd": "disc",
    "other": "other",
}


@dataclass(frozen=True, slots=True)
class Recognition:
    """What a file is; the title of an unknown one is its name without the extension."""

    kind: str
    title: str
    year: int | None = None
    season: int | None = None
    episode: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def recognise(path: str) -> Recognition:
    """Recognise a file by its path from the library's folder, with slashes; about 7 ms."""
    pure = PurePosixPath(path)
    # A year in brackets and nothing of an episode is a film, whatever number its title holds (Blade Runner 2049).
    parts = pure.parts[-FOLDERS_THAT_HELP - 1 :]
    is_film = _YEAR_IN_BRACKETS.search(pure.stem) and not any(_EPISODE_MARK.search(part) for part in parts)
    guess = _guess("/".join(parts), {"type": "movie"} if is_film else {})
    if guess is None or _is_made_by_machine(pure.stem, parts):
        return _unknown(pure)
    title = _text(guess.get("title"))
    details = _details(guess)
    if not title or _EXTRAS & set(_all(guess.get("other"))):
        return _unknown(pure, details)
    year = _number(guess.get("year"), 1880, 2100)
    if guess.get("type") != "episode":
        return Recognition(FILM, title, year, details=details)
    episodes = [number for each in _all(guess.get("episode")) if (number := _number(each, 0, 9999)) is not None]
    if not episodes and "date" not in guess:
        return _unknown(pure, details)
    if len(episodes) > 1:
        details["episodes"] = episodes
    seasons = [number for each in _all(guess.get("season")) if (number := _number(each, 0, 9999)) is not None]
    return Recognition(
        EPISODE, title, year, seasons[0] if seasons else None, episodes[0] if episodes else None, details
    )


def _guess(path: str, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    # Imported when first needed: the web process knows this job type but never guesses.
    from guessit import guessit
    from guessit.api import GuessitException

    if len(path) > MAXIMUM_GUESSED:
        path = path.rpartition("/")[2][-MAXIMUM_GUESSED:]
    try:
        found: Mapping[str, Any] = guessit(path, dict(options))
    except GuessitException:
        return None
    return found


def _is_made_by_machine(stem: str, parts: tuple[str, ...]) -> bool:
    if _HEXADECIMAL.fullmatch(stem):
        return True
    if not _MADE_BY_MACHINE.fullmatch(stem):
        return False
    # 05.mkv is an episode where its folder says so, and 300.mkv a film.
    above = parts[-2] if len(parts) > 1 else ""
    return not (_YEAR_IN_BRACKETS.search(above) or _EPISODE_MARK.search(above))


def _unknown(pure: PurePosixPath, details: Mapping[str, Any] | None = None) -> Recognition:
    return Recognition(UNKNOWN, pure.stem[:MAXIMUM_TITLE] or pure.name, details=details or {})


def _details(guess: Mapping[str, Any]) -> dict[str, Any]:
    details: dict[str, Any] = {}
    for key, name in _DETAILS.items():
        if (value := guess.get(key)) is not None:
            details[name] = [_text(each) for each in value] if isinstance(value, list) else _text(value)
    return details


def _text(value: Any) -> str:
    if isinstance(value, list):
        value = value[0] if value else ""
    return "" if value is None else str(value)[:MAXIMUM_TITLE]


def _all(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _number(value: Any, least: int, most: int) -> int | None:
    return value if isinstance(value, int) and least <= value <= most else None
