"""One scan of a library: what is on the disk against what was written down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from service.libraries.errors import LibraryRefused, LibraryTooLarge
from service.libraries.inventory import (
    BATCH,
    KnownFile,
    known_files,
    mark_gone,
    mark_returned,
    note_scan,
    write_files,
)
from service.libraries.paths import allowed_folder
from service.libraries.recogniser import EPISODE, FILM, Recognition, recognise
from service.libraries.scanner import Findings, Folder, VideoFile, find_folders, find_videos

MAXIMUM_FILES = 500_000
# Folders that the result names; more are counted only.
MAXIMUM_UNREADABLE = 50

# Called with (number of the folder from 1, folders in all, its name) before each folder; may raise to end the scan.
OnFolder = Callable[[int, int, str], None]


@dataclass
class Scan:
    """What one scan has seen."""

    folders: int = 0
    news: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    unreadable: Sequence[str] = ()

    def result(self) -> dict[str, Any]:
        """The result of the job: counts, and the first unreadable folders by their paths."""
        return {
            "directories": self.folders,
            "files": self.kinds.total(),
            **{name: self.news[name] for name in ("added", "changed", "gone", "returned", "unchanged")},
            "films": self.kinds[FILM],
            "episodes": self.kinds[EPISODE],
            "unreadable": list(self.unreadable[:MAXIMUM_UNREADABLE]),
            "unreadableCount": len(self.unreadable),
        }


def scan_library(
    library_id: UUID, path: str, roots: Sequence[Path], on_folder: OnFolder, checkpoint: Callable[[], None]
) -> Scan:
    """Write down what is new, changed, gone or back in a library.

    News is written as it is found, so a scan that is cut short has not worked in vain; only what is gone is known at
    the end. `checkpoint` is called often and may raise. Raises LibraryNotFound, LibraryRefused, LibraryUnavailable
    and LibraryTooLarge.
    """
    root = allowed_folder(Path(path), roots)
    if root is None:
        raise LibraryRefused
    findings = find_folders(root, checkpoint)
    ledger = _Ledger(library_id, checkpoint)
    for number, folder in enumerate(findings.folders, start=1):
        on_folder(number, len(findings.folders), folder.name)
        _scan_folder(folder, findings, ledger)
    gone = ledger.close(findings)
    note_scan(library_id)
    scan = Scan(len(findings.folders), ledger.news, ledger.kinds, sorted(findings.unreadable))
    scan.news["gone"] = gone
    return scan


def _scan_folder(folder: Folder, findings: Findings, ledger: _Ledger) -> None:
    if folder.path in findings.unreadable:
        return
    try:
        for video in find_videos(folder):
            ledger.see(video)
    except OSError:
        # It was read a moment ago: somebody moved or closed it, and what lay in it is not known to be gone.
        findings.unreadable.add(folder.path)


class _Ledger:
    """Compares files with what is known of them, and writes in batches."""

    def __init__(self, library_id: UUID, checkpoint: Callable[[], None]) -> None:
        self._library_id = library_id
        self._checkpoint = checkpoint
        self._known: Mapping[str, KnownFile] = known_files(library_id)
        self._seen: set[str] = set()
        self._written: list[tuple[VideoFile, Recognition]] = []
        self._returned: list[str] = []
        self.news: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()

    def see(self, video: VideoFile) -> None:
        """A file is there."""
        # Two names that differ only in bytes that are no text are one here.
        if video.path in self._seen:
            return
        self._seen.add(video.path)
        if len(self._seen) > MAXIMUM_FILES:
            raise LibraryTooLarge(f"The library has more than {MAXIMUM_FILES} video files.")
        known = self._known.get(video.path)
        if known and (known.size_bytes, known.modified_at) == (video.size_bytes, video.modified_at):
            self._keep(video.path, known)
            return
        self._checkpoint()
        found = recognise(video.path)
        self._written.append((video, found))
        self.kinds[found.kind] += 1
        self.news["added" if known is None else "changed"] += 1
        self._flush(BATCH)

    def _keep(self, path: str, known: KnownFile) -> None:
        self.kinds[known.kind] += 1
        if known.is_gone:
            self._returned.append(path)
            self.news["returned"] += 1
            self._flush(BATCH)
        else:
            self.news["unchanged"] += 1

    def close(self, findings: Findings) -> int:
        """Write what waits and mark what is gone; how many files are."""
        self._flush(1)
        gone = sorted(
            path
            for path, known in self._known.items()
            if not known.is_gone and path not in self._seen and not _is_below(path, findings.unreadable)
        )
        self._checkpoint()
        mark_gone(self._library_id, gone)
        return len(gone)

    def _flush(self, least: int) -> None:
        if len(self._written) >= least:
            # In one order, so that two scans of a library do not wait for each other crosswise.
            write_files(self._library_id, sorted(self._written, key=lambda item: item[0].path))
            self._written.clear()
        if len(self._returned) >= least:
            mark_returned(self._library_id, sorted(self._returned))
            self._returned.clear()


def _is_below(path: str, folders: set[str]) -> bool:
    """Whether a file lies in one of the folders or below."""
    if not folders:
        return False
    above = path
    while above:
        above = above.rpartition("/")[0]
        if above in folders:
            return True
    return False
