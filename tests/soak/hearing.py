"""Whether a socket client heard everything, or was told that it did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from tests.acceptance.journal import UNNUMBERED, Heard, Journal
from tests.soak.ledger import Promise


class Hearing:
    """What one client heard, in chapters: a new one begins where it was told to read again."""

    def __init__(self, journal: Journal) -> None:
        self.owner = journal.owner
        self.chapters: list[list[Heard]] = [[]]
        for event in journal.heard:
            if event.name == "resumed" and not event.data["recovered"]:
                self.chapters.append([])
            elif event.name not in UNNUMBERED:
                self.chapters[-1].append(event)

    def faults(self) -> list[str]:
        """What was heard twice, or out of order, and the numbers that are missing within a chapter."""
        events = [event for chapter in self.chapters for event in chapter]
        times = Counter((event.data["eventId"], event.name) for event in events)
        faults = [f"{self.owner} heard {message} {count} times" for message, count in times.items() if count > 1]
        for chapter in self.chapters:
            numbers = list(dict.fromkeys(event.data["eventId"] for event in chapter))
            faults.extend(
                f"{self.owner} heard {after} right after {before}"
                for before, after in pairwise(numbers)
                if not _follows(before, after)
            )
        return faults

    def ends(self) -> Counter[tuple[str | None, str]]:
        """How often the end of each job was heard, by job and status."""
        names = {"job:completed", "job:failed", "job:cancelled"}
        events = (event for chapter in self.chapters for event in chapter)
        return Counter((event.job_id, event.name.removeprefix("job:")) for event in events if event.name in names)

    def missing(self, promises: Iterable[Promise], statuses: dict[str, str]) -> Sequence[Promise]:
        """The jobs whose end was not heard although nobody said that something was missed after their last event."""
        heard = self.ends()
        latest = {event.job_id: number for number, chapter in enumerate(self.chapters) for event in chapter}
        last = len(self.chapters) - 1
        return [
            promise
            for promise in promises
            if not heard[promise.job_id, statuses[promise.job_id]] and latest.get(promise.job_id, 0) == last
        ]


def _follows(before: str, after: str) -> bool:
    (epoch, number), (next_epoch, next_number) = before.split("-"), after.split("-")
    return epoch == next_epoch and int(next_number) == int(number) + 1
