"""A soak in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.soak.soaking import Soak

_COLUMNS = ("accepted", "completed", "failed", "cancelled", "attempts", "lost", "handed back")


def summary(soak: Soak) -> str:
    """Tables of jobs by kind and of faults by kind, and what else a reader wants to know."""
    lines = [
        "",
        f"Soak with seed {soak.scale.seed}: {soak.torment_seconds:.0f} s of torment, "
        f"{soak.rest_seconds:.0f} s until all jobs had ended, {soak.telling_seconds:.0f} s until all had been told",
        "",
        *_table(_by_kind(soak), _COLUMNS),
        "",
        *_table({name: [str(count)] for name, count in soak.tormentor.counts.items()}, ("faults",)),
        "",
        *_remarks(soak),
    ]
    return "\n".join(lines)


def _by_kind(soak: Soak) -> dict[str, list[str]]:
    counts: dict[str, Counter[str]] = {}
    for promise in sorted(soak.promises, key=lambda each: each.kind):
        executions = soak.history.executions.get(promise.job_id, [])
        ends = Counter(row["status"] for row in executions)
        for kind in (promise.kind, "together"):
            counts.setdefault(kind, Counter()).update(
                {
                    "accepted": 1,
                    soak.history.statuses.get(promise.job_id, "missing"): 1,
                    "attempts": len(executions),
                    "lost": ends["lost"],
                    "handed back": ends["handed_back"],
                }
            )
    # The sum last.
    counts["together"] = counts.pop("together", Counter())
    return {kind: [str(count[column]) for column in _COLUMNS] for kind, count in counts.items()}


def _table(rows: dict[str, list[str]], columns: Sequence[str]) -> Iterator[str]:
    first = max(len(name) for name in rows)
    yield " ".join([" " * first, *(f"{column:>11}" for column in columns)])
    for name, cells in rows.items():
        yield " ".join([f"{name:{first}}", *(f"{cell:>11}" for cell in cells)])


def _remarks(soak: Soak) -> Iterator[str]:
    ledger = soak.ledger
    yield f"submissions: {ledger.submissions} accepted, {ledger.duplicates} refused as duplicates"
    refusals = ", ".join(f"{count} {how}" for how, count in ledger.refusals.most_common()) or "none"
    yield f"requests sent again: {refusals}; and {ledger.lost_answers} submissions as if their answers had been lost"
    rescues = soak.history.rescues(soak.tormentor.deeds)
    found = [rescue for rescue in rescues if rescue is not None]
    if found:
        slowest = max(rescue.seconds for rescue in found)
        undisturbed = max((rescue.seconds for rescue in found if not rescue.waited_for_database), default=0)
        yield (
            f"rescues: {len(found)}, the slowest {slowest:.1f} s after the kill; "
            f"where PostgreSQL was not restarted meanwhile, {undisturbed:.1f} s"
        )
    yield f"attempts lost although nobody killed their worker: {rescues.count(None)}"
    ids = [post.webhook_id for post in soak.posts]
    yield f"webhooks: {len(ids)} POSTs of {len(set(ids))} deliveries"
    chapters = ", ".join(str(len(each.chapters) - 1) for each in soak.hearings.values())
    yield f"sockets were told to read again: {chapters} times"
    yield f"ended by themselves: {', '.join(soak.tormentor.fallen) or 'nothing'}"
