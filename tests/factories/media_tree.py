"""Made-up film and series files, named as people and release groups name theirs; the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

# fmt: off
ADJECTIVES = (
    "Amber", "Silent", "Broken", "Crimson", "Distant", "Empty", "Frozen", "Gentle", "Hollow", "Iron", "Lonely",
    "Midnight", "Northern", "Paper", "Quiet", "Restless", "Scarlet", "Sleeping", "Stolen", "Velvet", "Wandering",
    "Winter", "Wooden", "Young",
)
NOUNS = (
    "Anchor", "Bridge", "Candle", "Canyon", "Clock", "Compass", "Garden", "Harbour", "Horizon", "Island",
    "Kingdom", "Lantern", "Meadow", "Mirror", "Mountain", "Orchard", "Palace", "River", "Shadow", "Sparrow",
    "Station", "Summer", "Thunder", "Tower", "Valley", "Window",
)
PLACES = (
    "Lisbon", "Marseille", "Tromso", "Valparaiso", "Kyoto", "Bergen", "Trieste", "Odessa", "Cardiff", "Windhoek",
)
NAMES = (
    "Clara", "Edgar", "Ines", "Jonas", "Leonie", "Marek", "Nadia", "Oskar", "Petra", "Rufus", "Selma", "Tobias",
)
# fmt: on
ACCENTED = ("Les Étés de Nadia", "Die Brücke am Fluß", "El Niño Perdido", "Vårens Första Ljus")
EPISODE_NAMES = ("Pilot", "The Letter", "Homecoming", "Night Train", "Old Debts", "A Visitor", "The Storm", "Farewell")
RESOLUTIONS = ("480p", "720p", "1080p", "2160p")
SOURCES = ("BluRay", "WEB-DL", "HDTV", "DVDRip", "WEBRip")
CODECS = ("x264", "x265", "H.264", "XviD")
GROUPS = ("GRAVITY", "NOVA", "LUMEN", "ORBIT", "TIDAL")
EXTENSIONS = ("mkv", "mp4", "avi", "m4v")

FILM, EPISODE, UNKNOWN = "film", "episode", "unknown"


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A file and what it is: the path from the library's folder, with slashes."""

    path: str
    kind: str
    title: str | None = None
    year: int | None = None
    season: int | None = None
    episode: int | None = None


def made_files(count: int = 1000, seed: int = 1) -> list[MadeFile]:
    """So many different files: about half films, half episodes, and two in a hundred that nobody can recognise."""
    rng = random.Random(seed)
    files: dict[str, MadeFile] = {}
    titles: set[str] = set()
    while len(files) < count:
        lot = rng.random()
        if lot < 0.04:
            made = [_unknown(rng)]
        elif lot < 0.93:
            made = [_film(rng, titles)]
        else:
            made = _series(rng, titles)
        for file in made[: count - len(files)]:
            files.setdefault(file.path, file)
    return list(files.values())


def write_files(root: Path, files: Iterable[MadeFile]) -> None:
    """Lay the files down below `root`, a few bytes each."""
    for file in files:
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.path.encode())


def _title(rng: random.Random, taken: set[str]) -> str:
    forms: list[Callable[[], str]] = [
        lambda: f"The {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}",
        lambda: f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}",
        lambda: f"{rng.choice(NOUNS)} of the {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}",
        lambda: f"{rng.choice(NAMES)} and the {rng.choice(NOUNS)}",
        lambda: f"A {rng.choice(NOUNS)} in {rng.choice(PLACES)}",
        lambda: f"{rng.choice(NAMES)} {rng.choice(('Leaves', 'Returns', 'Waits'))} at {rng.choice(('Dawn', 'Dusk'))}",
        lambda: f"{rng.choice(ACCENTED)} {rng.choice(NAMES)}",
    ]
    while True:
        title = rng.choice(forms)()
        if title not in taken:
            taken.add(title)
            return title


def _film(rng: random.Random, taken: set[str]) -> MadeFile:
    title, year = _title(rng, taken), rng.randint(1950, 2024)
    dotted, extension = title.replace(" ", "."), rng.choice(EXTENSIONS)
    release = f"{rng.choice(RESOLUTIONS)}.{rng.choice(SOURCES)}.{rng.choice(CODECS)}-{rng.choice(GROUPS)}"
    path = rng.choice(
        [
            f"Films/{title} ({year})/{title} ({year}).{extension}",
            f"Films/{title} ({year})/{title} ({year}) [{rng.choice(SOURCES)}-{rng.choice(RESOLUTIONS)}].{extension}",
            f"Films/{title} ({year})/{dotted}.{year}.{release}.{extension}",
            f"Films/{dotted}.{year}.{release}/{dotted}.{year}.{release}.{extension}",
            f"Films/{title} ({year}).{extension}",
            f"Films/{title} [{year}] {rng.choice(RESOLUTIONS)}.{extension}",
            f"Downloads/{dotted.lower()}.{year}.{release.lower()}.{extension}",
            f"Downloads/{title.replace(' ', '_')}_({year})_{rng.choice(RESOLUTIONS)}.{extension}",
        ]
    )
    return MadeFile(path, FILM, title, year)


def _series(rng: random.Random, taken: set[str]) -> list[MadeFile]:
    title, seasons, episodes = _title(rng, taken), rng.randint(1, 3), rng.randint(4, 8)
    dotted, extension = title.replace(" ", "."), rng.choice(EXTENSIONS)
    release = f"{rng.choice(RESOLUTIONS)}.{rng.choice(SOURCES)}.{rng.choice(CODECS)}-{rng.choice(GROUPS)}"
    styles: list[Callable[[int, int, str], str]] = [
        lambda s, e, n: f"Series/{title}/Season {s:02}/{title} - S{s:02}E{e:02} - {n}.{extension}",
        lambda s, e, n: f"Series/{title}/Season {s}/{e:02} - {n}.{extension}",
        lambda s, e, n: f"Series/{title}/{title} {s}x{e:02} {n}.{extension}",
        lambda s, e, n: f"Series/{title}/S{s:02}/{dotted}.S{s:02}E{e:02}.{release}.{extension}",
        lambda s, e, n: f"Downloads/{dotted.lower()}.s{s:02}e{e:02}.{release.lower()}.{extension}",
        lambda s, e, n: f"Series/{title}/Season {s:02}/{dotted}.S{s:02}E{e:02}.{n.replace(' ', '.')}.{extension}",
    ]
    style = rng.choice(styles)
    return [
        MadeFile(style(season, episode, rng.choice(EPISODE_NAMES)), EPISODE, title, None, season, episode)
        for season in range(1, seasons + 1)
        for episode in range(1, episodes + 1)
    ]


def _unknown(rng: random.Random) -> MadeFile:
    day = f"{rng.randint(2010, 2024)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}"
    name = rng.choice(
        [
            f"IMG_{rng.randint(0, 9999):04}.mov",
            f"VID_{day}_{rng.randint(0, 235959):06}.mp4",
            f"{rng.getrandbits(64):016x}0.mp4",
            f"DSC{rng.randint(0, 99999):05}.mp4",
            f"video ({rng.randint(1, 500)}).mp4",
        ]
    )
    return MadeFile(f"Camera/{name}", UNKNOWN)
