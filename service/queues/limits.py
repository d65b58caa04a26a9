"""What of each limit is left at the moment: jobs at once, and starts in a time."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from service.database import fetch_all
from service.events import JobRow
from service.jobs.limits import BUCKET, UNLIMITED, Limit, Rate, limit_of, subjects_of
from service.jobs.registry import find_job_type
from service.settings import current_settings


@dataclass(frozen=True)
class Bucket:
    """The starts a subject has left of its rate at a moment."""

    tokens: float
    refilled_at: datetime

    def at(self, rate: Rate, now: datetime) -> Bucket:
        """What the bucket holds at a later moment."""
        if rate.kind == BUCKET:
            elapsed = max(0.0, (now - self.refilled_at).total_seconds())
            return Bucket(min(float(rate.limit), self.tokens + elapsed * rate.limit / rate.period), now)
        begins = window_start(rate, now)
        return self if self.refilled_at >= begins else Bucket(float(rate.limit), begins)

    def next_start(self, rate: Rate) -> datetime:
        """When there is a whole start again, of a bucket that has none."""
        if rate.kind == BUCKET:
            return self.refilled_at + timedelta(seconds=(1 - self.tokens) * rate.period / rate.limit)
        return self.refilled_at + timedelta(seconds=rate.period)


def window_start(rate: Rate, now: datetime) -> datetime:
    """The start of the window that a moment lies in; windows are counted from 1970."""
    return datetime.fromtimestamp(math.floor(now.timestamp() / rate.period) * rate.period, UTC)


def full_bucket(rate: Rate, now: datetime) -> Bucket:
    """The bucket of a subject that has not started anything yet."""
    return Bucket(float(rate.limit), now if rate.kind == BUCKET else window_start(rate, now))


def declared_limit(subject: str) -> Limit:
    """What the code and the settings say of a subject."""
    scope, _, rest = subject.partition(":")
    settings = current_settings()
    if scope == "user":
        return Limit(settings.user_concurrency)
    if scope == "tenant":
        return Limit(settings.tenant_concurrency)
    kind = find_job_type(rest.split(":", 2)[1] if scope == "key" else rest)
    if kind is None:
        return UNLIMITED
    return kind.key_limit if scope == "key" else kind.limit


IN_FLIGHT = """
SELECT type, concurrency_key, organization_id, user_id, count(*) AS jobs FROM jobs
WHERE status = 'active' OR (status = 'queued' AND dispatched_at IS NOT NULL)
GROUP BY type, concurrency_key, organization_id, user_id
"""


class Allowances:
    """What the subjects that were loaded have left; `take` uses it up.

    A job counts from when it is sent until it leaves the worker: otherwise a limit could be exceeded by messages that
    are on their way.
    """

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._limits: dict[str, Limit] = {}
        self._in_use: Counter[str] | None = None
        self._sent: Counter[str] = Counter()
        self._buckets: dict[str, Bucket] = {}
        self._used: set[str] = set()

    def load(self, subjects: Iterable[str]) -> None:
        """Learn the limits of these subjects, and what is left of them."""
        new = {subject for subject in subjects if subject not in self._limits}
        limits = {subject: declared_limit(subject) for subject in new}
        for row in _rows("SELECT * FROM job_limits WHERE subject = ANY(%(subjects)s)", new):
            limits[row["subject"]] = limit_of(row["concurrency"], row["rate"], row["period"], row["kind"])
        self._limits |= limits
        if self._in_use is None and any(limit.concurrency is not None for limit in limits.values()):
            self._in_use = Counter()
            for row in fetch_all(IN_FLIGHT, {}):
                for subject in subjects_of(row):
                    self._in_use[subject] += row["jobs"]
        rated = [subject for subject, limit in limits.items() if limit.rate is not None]
        known = {
            row["subject"]: Bucket(row["tokens"], row["refilled_at"])
            for row in _rows("SELECT * FROM job_rate_buckets WHERE subject = ANY(%(subjects)s)", rated)
        }
        for subject in rated:
            rate = self._rate(subject)
            bucket = known.get(subject)
            self._buckets[subject] = full_bucket(rate, self._now) if bucket is None else bucket.at(rate, self._now)

    def _rate(self, subject: str) -> Rate:
        rate = self._limits[subject].rate
        assert rate is not None
        return rate

    def free(self, subject: str) -> int | None:
        """How many more jobs of a subject may be sent now; None: any number."""
        limit = self._limits[subject]
        free = []
        if limit.concurrency is not None:
            assert self._in_use is not None
            free.append(limit.concurrency - self._in_use[subject] - self._sent[subject])
        if subject in self._buckets:
            free.append(int(self._buckets[subject].tokens))
        return max(0, min(free)) if free else None

    def blocker(self, job: JobRow) -> str | None:
        """The first subject of a job that has nothing left."""
        return next((subject for subject in subjects_of(job) if self.free(subject) == 0), None)

    def take(self, job: JobRow) -> None:
        """Count a job as sent."""
        for subject in subjects_of(job):
            self._sent[subject] += 1
            bucket = self._buckets.get(subject)
            if bucket is not None:
                self._buckets[subject] = Bucket(bucket.tokens - 1, bucket.refilled_at)
                self._used.add(subject)

    def next_start(self, subject: str) -> datetime | None:
        """When a subject that has used up its rate may start again; None where it is not the rate that holds it."""
        bucket = self._buckets.get(subject)
        if bucket is None or bucket.tokens >= 1:
            return None
        return bucket.next_start(self._rate(subject))

    def save(self) -> None:
        """Write down what is left of the rates that were used."""
        if self._used:
            buckets = [
                {
                    "subject": subject,
                    "tokens": self._buckets[subject].tokens,
                    "refilled_at": self._buckets[subject].refilled_at.isoformat(),
                }
                for subject in sorted(self._used)
            ]
            fetch_all(
                """
                INSERT INTO job_rate_buckets (subject, tokens, refilled_at)
                SELECT subject, tokens, refilled_at
                FROM jsonb_to_recordset(%(buckets)s) AS bucket(subject text, tokens float, refilled_at timestamptz)
                ON CONFLICT (subject) DO UPDATE SET tokens = excluded.tokens, refilled_at = excluded.refilled_at
                """,
                {"buckets": json.dumps(buckets)},
            )


def _rows(statement: str, subjects: Iterable[str]) -> Iterable[JobRow]:
    listed = list(subjects)
    return fetch_all(statement, {"subjects": listed}) if listed else ()
