"""Which of the held jobs are sent to the workers next.

A submission sends its job at once where nothing is in the way. Everything else is held in SQL and sent from here: in
the order of priorities, of jobs of the same level one of each tenant in turn, as far as limits leave room, and only so
far ahead of the workers that whoever comes later is not behind a long row of messages. A job that a limit holds back is
parked under it, so that the ones behind it are seen; it is looked at again when the limit has room.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter

from service.database import after_commit, fetch_all, fetch_one, transaction
from service.events import JobRow
from service.jobs.limits import subjects_of
from service.jobs.rows import COLUMNS
from service.jobs.submission import SENT_AT_ONCE
from service.queue import enqueue_jobs, level_of, queues
from service.queues.limits import Allowances

# Any constant serves. Whoever sends held jobs, or changes what may be sent, has it to himself.
LOCK = 7_203_514
# Jobs of a tenant, or of a limit, that one pass looks at.
CANDIDATES = 200
# Messages ahead of the workers of a queue: few, so that tenants take turns; more while the workers outrun us.
LEAST_AHEAD = SENT_AT_ONCE
MOST_AHEAD = 512


@dataclass
class Windows:
    """How many messages may wait in each queue; learnt from how many were left at the last pass."""

    sizes: dict[str, int] = field(default_factory=dict)

    def adapted(self, queue: str, waiting: int) -> int:
        """The size of a queue's window now that so many messages wait and there are jobs to send."""
        size = self.sizes.get(queue, 2 * LEAST_AHEAD)
        if waiting == 0:
            size = min(2 * size, MOST_AHEAD)
        elif waiting > size // 2:
            size = max(size - size // 8 - 1, LEAST_AHEAD)
        self.sizes[queue] = size
        return size


@dataclass(frozen=True)
class Pass:
    """What came of a look at the held jobs."""

    sent: int
    parked: int
    # When a rate lets go of the next job, if that is what the jobs wait for.
    next_start: datetime | None

    @property
    def moved(self) -> bool:
        """Whether another look may find more."""
        return bool(self.sent or self.parked)


def lock_dispatch() -> None:
    """Have the dispatch of held jobs to oneself until the transaction ends."""
    fetch_all("SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": LOCK})


# The tenants with held jobs by one look at the index each, and the first jobs of each of them.
HELD = f"""
WITH RECURSIVE tenant AS (
    (SELECT organization_id FROM jobs
        WHERE queue = %(queue)s AND status = 'queued' AND dispatched_at IS NULL AND parked_on IS NULL
        ORDER BY organization_id LIMIT 1)
    UNION ALL
    SELECT (SELECT organization_id FROM jobs
        WHERE queue = %(queue)s AND status = 'queued' AND dispatched_at IS NULL AND parked_on IS NULL
            AND organization_id > tenant.organization_id
        ORDER BY organization_id LIMIT 1)
    FROM tenant WHERE tenant.organization_id IS NOT NULL)
SELECT held.* FROM tenant, LATERAL (
    SELECT {COLUMNS}, parked_on FROM jobs
    WHERE queue = %(queue)s AND organization_id = tenant.organization_id AND status = 'queued'
        AND dispatched_at IS NULL AND parked_on IS NULL AND coalesce(created_at < %(drain_before)s, true)
    ORDER BY priority DESC, id LIMIT {CANDIDATES}) AS held
"""

SENT = """
SELECT organization_id, priority, count(*) AS jobs FROM jobs
WHERE queue = %(queue)s AND status = 'queued' AND dispatched_at IS NOT NULL
GROUP BY organization_id, priority
"""

PARKED_SUBJECTS = """
WITH RECURSIVE subject AS (
    (SELECT parked_on FROM jobs WHERE status = 'queued' AND parked_on IS NOT NULL ORDER BY parked_on LIMIT 1)
    UNION ALL
    SELECT (SELECT parked_on FROM jobs
        WHERE status = 'queued' AND parked_on IS NOT NULL AND parked_on > subject.parked_on ORDER BY parked_on LIMIT 1)
    FROM subject WHERE subject.parked_on IS NOT NULL)
SELECT parked_on FROM subject WHERE parked_on IS NOT NULL
"""

PARKED = f"""
SELECT parked.* FROM jsonb_to_recordset(%(freed)s) AS freed(subject text, free int), LATERAL (
    SELECT {COLUMNS}, parked_on FROM jobs WHERE status = 'queued' AND parked_on = freed.subject
    ORDER BY priority DESC, id LIMIT freed.free) AS parked
"""


def dispatch(windows: Windows) -> Pass:
    """Send the jobs whose turn it is; one pass, which looks at some hundred jobs of each tenant."""
    with transaction():
        lock_dispatch()
        clock = fetch_one("SELECT clock_timestamp() AS now", {})
        assert clock is not None
        now = clock["now"]
        allowances = Allowances(now)
        candidates = _held_jobs()
        subjects = [row["parked_on"] for row in fetch_all(PARKED_SUBJECTS, {})]
        allowances.load(subjects)
        for job in _parked_jobs(subjects, allowances):
            # One of a queue that is paused stays where it is.
            if job["queue"] in candidates:
                candidates[job["queue"]].append(job)
        allowances.load(subject for jobs in candidates.values() for job in jobs for subject in subjects_of(job))
        chosen: list[JobRow] = []
        parked: dict[str, str] = {}
        for queue, jobs in candidates.items():
            if jobs:
                for job, blocker in _choose(queue, jobs, windows, allowances):
                    if blocker is None:
                        chosen.append(job)
                    elif blocker != job["parked_on"]:
                        parked[str(job["id"])] = blocker
        allowances.save()
        _park(parked)
        rows = _mark_sent(chosen, now)
        after_commit(lambda: enqueue_jobs(rows))
    starts = [allowances.next_start(subject) for subject in {*subjects, *parked.values()}]
    return Pass(len(rows), len(parked), min((start for start in starts if start is not None), default=None))


def _held_jobs() -> dict[str, list[JobRow]]:
    """The first held jobs of each tenant, by queue; none of a queue that is paused."""
    states = {row["name"]: row for row in fetch_all("SELECT name, paused_at, drain_before FROM queues", {})}
    held = {}
    for queue in queues():
        state = states.get(queue, {"paused_at": None, "drain_before": None})
        if state["paused_at"] is None:
            held[queue] = list(fetch_all(HELD, {"queue": queue, "drain_before": state["drain_before"]}))
    return held


def _parked_jobs(subjects: Iterable[str], allowances: Allowances) -> Sequence[JobRow]:
    """The first jobs that were parked under limits which have room by now."""
    freed = []
    for subject in subjects:
        free = allowances.free(subject)
        if free != 0:
            freed.append({"subject": subject, "free": CANDIDATES if free is None else min(free, CANDIDATES)})
    return fetch_all(PARKED, {"freed": json.dumps(freed)}) if freed else ()


def _choose(
    queue: str, jobs: list[JobRow], windows: Windows, allowances: Allowances
) -> Iterator[tuple[JobRow, str | None]]:
    """The jobs to send, in this order, with None, and those to park, each with the limit that is in its way."""
    waiting: Counter[int] = Counter()
    turns: Counter[object] = Counter()
    for row in fetch_all(SENT, {"queue": queue}):
        waiting[level_of(row["priority"])] += row["jobs"]
        turns[row["organization_id"]] += row["jobs"]
    window = windows.adapted(queue, waiting.total())
    ranked = []
    for job in sorted(jobs, key=lambda each: (-each["priority"], each["id"])):
        turns[job["organization_id"]] += 1
        ranked.append((-level_of(job["priority"]), turns[job["organization_id"]], -job["priority"], job["id"], job))
    ranked.sort(key=itemgetter(0, 1, 2, 3))
    for lowest, *_, job in ranked:
        level = -lowest
        # A message of a lower level is not in the way of this one.
        if sum(count for at, count in waiting.items() if at >= level) >= window:
            continue
        blocker = allowances.blocker(job)
        if blocker is None:
            allowances.take(job)
            waiting[level] += 1
        yield job, blocker


def _park(parked: Mapping[str, str]) -> None:
    if parked:
        places = [{"id": job_id, "subject": subject} for job_id, subject in parked.items()]
        fetch_all(
            """
            UPDATE jobs SET parked_on = place.subject
            FROM jsonb_to_recordset(%(places)s) AS place(id uuid, subject text)
            WHERE jobs.id = place.id AND jobs.status = 'queued'
            """,
            {"places": json.dumps(places)},
        )


def _mark_sent(jobs: Sequence[JobRow], now: datetime) -> Sequence[JobRow]:
    """Note that the messages of these jobs are sent; the rows, in the same order, of those that still wait."""
    if not jobs:
        return []
    places = {str(job["id"]): place for place, job in enumerate(jobs)}
    rows = fetch_all(
        f"""
        UPDATE jobs SET dispatched_at = %(now)s, parked_on = NULL
        WHERE id IN (SELECT value::uuid FROM jsonb_array_elements_text(%(ids)s)) AND status = 'queued'
            AND dispatched_at IS NULL
        RETURNING {COLUMNS}
        """,
        {"ids": json.dumps(list(places)), "now": now},
    )
    return sorted(rows, key=lambda row: places[str(row["id"])])


def jobs_are_held() -> bool:
    """Whether any job waits to be sent."""
    with transaction():
        row = fetch_one(
            """
            SELECT EXISTS (SELECT FROM jobs WHERE status = 'queued' AND dispatched_at IS NULL AND parked_on IS NULL)
                OR EXISTS (SELECT FROM jobs WHERE status = 'queued' AND parked_on IS NOT NULL) AS held
            """,
            {},
        )
    return row is not None and bool(row["held"])
