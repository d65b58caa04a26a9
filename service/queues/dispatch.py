"""Which of the held jobs are sent to the workers next.

A submission sends its job at once where nothing is in the way. Everything else is held in SQL and sent from here: in
the order of priorities, of jobs of the same level one of each tenant in turn, as far as limits leave room, and only so
far ahead of the workers that whoever comes later is not behind a long row of messages. A job that a limit holds back is
parked under it, so that the ones behind it are seen; it is looked at again when the limit has room.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from time import monotonic

from service.database import after_commit, fetch_all, fetch_one, transaction
from service.events import JobRow
from service.jobs.limits import subjects_of
from service.jobs.submission import SENT_AT_ONCE
from service.queue import enqueue_jobs, level_of, queues
from service.queues.limits import Allowances

# Any constant serves. Whoever sends held jobs, or changes what may be sent, has it to himself.
LOCK = 7_203_516
# Jobs of a tenant, or of a limit, that one pass looks at when limits hold jobs back.
CANDIDATES = 200
# Messages ahead of the workers of a queue: as many as last for so long, so that tenants take turns.
LEAST_AHEAD = SENT_AT_ONCE
MOST_AHEAD = 512
AHEAD_SECONDS = 0.5
# What was seen longer ago says nothing of how fast messages go.
PACE_KNOWN_SECONDS = 1.0


@dataclass
class Windows:
    """How many messages may wait in each queue; learnt from how many were left at the last pass."""

    sizes: dict[str, int] = field(default_factory=dict)
    # Whether the last pass parked jobs: behind them there may be many like them, and others behind those.
    meets_limits: bool = False
    # How many messages the last pass left in each queue, when it counted them, and how long after the one before it.
    left: dict[str, int] = field(default_factory=dict)
    looked_at: float | None = None
    elapsed: float | None = None
    # For how long no message went since the last pass, and for how long some did before this one.
    rested: float = 0.0
    moved: float = 0.0
    # Seconds, from some moment on.
    clock: Callable[[], float] = monotonic

    def look(self) -> None:
        """A pass begins, and counts the messages that wait."""
        now = self.clock()
        self.elapsed = None if self.looked_at is None else now - self.looked_at
        self.moved = max((self.elapsed or 0.0) - self.rested, 0.0)
        self.looked_at, self.rested = now, 0.0

    def rest(self, seconds: float) -> None:
        """No message has gone for so long: nobody has rung."""
        self.rested += seconds

    def size(self, queue: str) -> int:
        """How many messages may wait in a queue."""
        return self.sizes.get(queue, 2 * LEAST_AHEAD)

    def lasts(self, queue: str, waiting: int, ahead: int) -> float:
        """Seconds that so many messages `ahead` last at least, as those of the last pass went to `waiting`."""
        if self._pace(queue, waiting) is None or not waiting:
            # What has gone to the last message may have gone much faster.
            return 0.0
        # A few that have gone say little: so many more might have.
        gone = max(self.left.get(queue, 0) - waiting, 0) + LEAST_AHEAD
        return ahead * self.moved / gone

    def adapt(self, queue: str, waiting: int) -> int:
        """The size of a queue's window now that so many messages wait."""
        size, pace = self.size(queue), self._pace(queue, waiting)
        if pace is None and self.elapsed is not None:
            size = min(size, 2 * LEAST_AHEAD)
        elif waiting:
            # Step by step: where workers lay idle, as many went at once as there are, which is no pace.
            most = min(round((pace or 0.0) * AHEAD_SECONDS), 2 * size, MOST_AHEAD)
            size = max(most, size - size // 8 - 1, LEAST_AHEAD)
        elif pace:
            # They may have been waited for.
            size = max(size, min(2 * size, MOST_AHEAD))
        self.sizes[queue] = size
        return size

    def _pace(self, queue: str, waiting: int) -> float | None:
        """Messages a second that have gone since the last pass; None where that was too long ago."""
        if self.elapsed is None or self.elapsed > PACE_KNOWN_SECONDS:
            return None
        return max(self.left.get(queue, 0) - waiting, 0) / max(self.elapsed, 0.001)


@dataclass(frozen=True)
class Pass:
    """What came of a look at the held jobs."""

    sent: int
    parked: int
    # Where jobs that nothing holds back were left, for there are messages enough ahead of the workers: seconds for
    # which these last, as it seems. None: nothing was left.
    lasts: float | None
    # When a rate lets go of the next job, if that is what the jobs wait for.
    next_start: datetime | None

    @property
    def moved(self) -> bool:
        """Whether another look may find more."""
        return bool(self.sent or self.parked)


def lock_dispatch() -> None:
    """Have the dispatch of held jobs to oneself until the transaction ends."""
    fetch_all("SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": LOCK})


# What a message, a limit or an order of jobs needs to know of them.
SEEN = "id, type, queue, priority, attempt, timeout, organization_id, user_id, concurrency_key, parked_on"

STATE = """
WITH RECURSIVE subject AS (
    (SELECT parked_on FROM jobs WHERE status = 'queued' AND parked_on IS NOT NULL ORDER BY parked_on LIMIT 1)
    UNION ALL
    SELECT (SELECT parked_on FROM jobs
        WHERE status = 'queued' AND parked_on IS NOT NULL AND parked_on > subject.parked_on ORDER BY parked_on LIMIT 1)
    FROM subject WHERE subject.parked_on IS NOT NULL),
sent AS (
    SELECT queue, organization_id, priority, count(*) AS jobs FROM jobs
    WHERE status = 'queued' AND dispatched_at IS NOT NULL
    GROUP BY queue, organization_id, priority)
SELECT clock_timestamp() AS now,
    (SELECT coalesce(json_agg(queues), '[]') FROM queues)::text AS queues,
    (SELECT coalesce(json_agg(parked_on), '[]') FROM subject WHERE parked_on IS NOT NULL)::text AS parked,
    (SELECT coalesce(json_agg(sent), '[]') FROM sent)::text AS sent
"""

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
    SELECT {SEEN} FROM jobs
    WHERE queue = %(queue)s AND organization_id = tenant.organization_id AND status = 'queued'
        AND dispatched_at IS NULL AND parked_on IS NULL AND coalesce(created_at < %(drain_before)s, true)
    ORDER BY priority DESC, id LIMIT %(most)s) AS held
"""

PARKED = f"""
SELECT parked.* FROM jsonb_to_recordset(%(freed)s) AS freed(subject text, free int), LATERAL (
    SELECT {SEEN} FROM jobs WHERE status = 'queued' AND parked_on = freed.subject
    ORDER BY priority DESC, id LIMIT freed.free) AS parked
"""


@dataclass(frozen=True)
class State:
    """How the queues stand as a pass begins."""

    now: datetime
    # By name, only the queues that may start jobs: the moment before which these must have been created, if any.
    running: Mapping[str, str | None]
    # Limits that jobs are parked under.
    parked: Sequence[str]
    # By queue: messages by level, and by tenant.
    levels: Mapping[str, Counter[int]]
    tenants: Mapping[str, Counter[str]]


def _state() -> State:
    row = fetch_one(STATE, {})
    assert row is not None
    states = {each["name"]: each for each in json.loads(row["queues"])}
    levels: dict[str, Counter[int]] = {queue: Counter() for queue in queues()}
    tenants: dict[str, Counter[str]] = {queue: Counter() for queue in queues()}
    for each in json.loads(row["sent"]):
        if each["queue"] in levels:
            levels[each["queue"]][level_of(each["priority"])] += each["jobs"]
            tenants[each["queue"]][each["organization_id"]] += each["jobs"]
    return State(
        now=row["now"],
        running={
            queue: states.get(queue, {}).get("drain_before")
            for queue in queues()
            if states.get(queue, {}).get("paused_at") is None
        },
        parked=json.loads(row["parked"]),
        levels=levels,
        tenants=tenants,
    )


def dispatch(windows: Windows) -> Pass:
    """Send the jobs whose turn it is: one pass, which looks at no more of them than it may need."""
    with transaction():
        lock_dispatch()
        windows.look()
        state = _state()
        allowances = Allowances(state.now)
        allowances.load(state.parked)
        candidates = {queue: _held_jobs(queue, state, windows) for queue in state.running}
        for job in _parked_jobs(state.parked, allowances):
            # One of a queue that is paused stays where it is.
            if job["queue"] in candidates:
                candidates[job["queue"]].append(job)
        allowances.load({subject for jobs in candidates.values() for job in jobs for subject in subjects_of(job)})
        waiting = {queue: state.levels[queue].total() for queue in candidates}
        chosen: list[JobRow] = []
        parked: dict[str, str] = {}
        seen = 0
        for queue, jobs in candidates.items():
            for job, blocker in _choose(
                jobs, state.levels[queue], state.tenants[queue], windows.size(queue), allowances
            ):
                seen += 1
                if blocker is None:
                    chosen.append(job)
                elif blocker != job["parked_on"]:
                    parked[str(job["id"])] = blocker
        allowances.save()
        _park(parked)
        rows = _mark_sent(chosen, state.now)
        after_commit(lambda: enqueue_jobs(rows))
    windows.meets_limits = bool(parked)
    starts = [allowances.next_start(subject) for subject in {*state.parked, *parked.values()}]
    lasts = None
    if seen < sum(len(jobs) for jobs in candidates.values()):
        ahead = {queue: state.levels[queue].total() for queue, jobs in candidates.items() if jobs}
        lasts = min(windows.lasts(queue, waiting[queue], count) for queue, count in ahead.items())
    windows.left = {queue: levels.total() for queue, levels in state.levels.items()}
    return Pass(len(rows), len(parked), lasts, min((start for start in starts if start is not None), default=None))


def _held_jobs(queue: str, state: State, windows: Windows) -> list[JobRow]:
    """The first held jobs of each tenant: as many as there is room for, or more while limits hold some back."""
    waiting = state.levels[queue].total()
    room = max(windows.adapt(queue, waiting) - waiting, LEAST_AHEAD)
    # One more than there is room for tells whether any are left.
    most = max(room, CANDIDATES) if windows.meets_limits else room + 1
    return list(fetch_all(HELD, {"queue": queue, "drain_before": state.running[queue], "most": most}))


def _parked_jobs(subjects: Iterable[str], allowances: Allowances) -> Sequence[JobRow]:
    """The first jobs that were parked under limits which have room by now."""
    freed = []
    for subject in subjects:
        free = allowances.free(subject)
        if free != 0:
            freed.append({"subject": subject, "free": CANDIDATES if free is None else min(free, CANDIDATES)})
    return fetch_all(PARKED, {"freed": json.dumps(freed)}) if freed else ()


def _choose(
    jobs: list[JobRow], levels: Counter[int], tenants: Counter[str], window: int, allowances: Allowances
) -> Iterator[tuple[JobRow, str | None]]:
    """The jobs to send, in this order, with None, and those to park, each with the limit that is in its way.

    `levels` and `tenants`: the messages that wait already.
    """
    ranked = []
    for job in sorted(jobs, key=lambda each: (-each["priority"], each["id"])):
        tenants[str(job["organization_id"])] += 1
        turn = tenants[str(job["organization_id"])]
        ranked.append((-level_of(job["priority"]), turn, -job["priority"], job["id"], job))
    ranked.sort(key=itemgetter(0, 1, 2, 3))
    for lowest, *_, job in ranked:
        level = -lowest
        # A message of a lower level is not in the way of this one.
        if sum(count for at, count in levels.items() if at >= level) >= window:
            continue
        blocker = allowances.blocker(job)
        if blocker is None:
            allowances.take(job)
            levels[level] += 1
        yield job, blocker


def _park(parked: Mapping[str, str]) -> None:
    if parked:
        places = [{"id": job_id, "subject": subject} for job_id, subject in parked.items()]
        fetch_all(
            """
            UPDATE jobs SET parked_on = place.subject
            FROM jsonb_to_recordset(%(places)s) AS place(id uuid, subject text)
            WHERE jobs.id = place.id AND jobs.id IN (
                SELECT jobs.id FROM jobs JOIN jsonb_to_recordset(%(places)s) AS place(id uuid, subject text) USING (id)
                WHERE jobs.status = 'queued' ORDER BY jobs.id FOR UPDATE OF jobs)
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
        WHERE id IN (
            SELECT id FROM jobs
            WHERE id = ANY(ARRAY(SELECT value::uuid FROM jsonb_array_elements_text(%(ids)s))) AND status = 'queued'
                AND dispatched_at IS NULL
            ORDER BY id FOR UPDATE)
        RETURNING {SEEN}
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
