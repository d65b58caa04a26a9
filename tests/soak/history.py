"""What the database says became of the jobs, read once when all is over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.acceptance.records import Records
from tests.soak.tormentor import CHILD_KILLED, DATABASE_KILLED, DATABASE_RESTARTED, WORKER_KILLED, WORKER_STOPPED, Deed

Row = dict[str, Any]
# Attempts that say nothing about their job.
UNSPOKEN = frozenset({"lost", "handed_back"})


@dataclass(frozen=True)
class History:
    """Rows by job."""

    jobs: dict[str, Row]
    executions: dict[str, list[Row]]
    notifications: dict[str, list[Row]]
    deliveries: dict[str, list[Row]]

    @classmethod
    def read(cls, records: Records, owners: Sequence[str]) -> History:
        """All that belongs to these users."""
        theirs = "user_id = ANY(%s::uuid[])"
        jobs = records.rows(f"SELECT *, id::text AS job_id FROM jobs WHERE {theirs}", list(owners))
        return cls(
            {job["job_id"]: job for job in jobs},
            _by_job(
                records.rows(
                    f"""
                    SELECT job_id::text, attempt, status, worker, started_at, finished_at FROM job_executions
                    WHERE job_id IN (SELECT id FROM jobs WHERE {theirs}) ORDER BY job_id, attempt, id
                    """,
                    list(owners),
                )
            ),
            _by_job(
                records.rows(
                    f"SELECT data->>'jobId' AS job_id, type FROM notifications WHERE {theirs} ORDER BY id", list(owners)
                )
            ),
            _by_job(
                records.rows(
                    f"SELECT job_id::text, id::text, event_type, status FROM webhook_deliveries WHERE {theirs}",
                    list(owners),
                )
            ),
        )

    @cached_property
    def statuses(self) -> dict[str, str]:
        """The status of each job."""
        return {job_id: job["status"] for job_id, job in self.jobs.items()}

    def code(self, job_id: str) -> str | None:
        """The code of a job's error."""
        error = self.jobs.get(job_id, {}).get("error")
        return None if error is None else str(error["code"])

    def spoken(self, job_id: str) -> list[tuple[int, str]]:
        """The attempts of a job that came to an end of their own: number and status."""
        rows = self.executions[job_id]
        return [(row["attempt"], row["status"]) for row in rows if row["status"] not in UNSPOKEN]

    def told(self, job_id: str, type_: str) -> int:
        """How many notifications of a type are about a job."""
        return sum(row["type"] == type_ for row in self.notifications[job_id])

    def lost(self) -> list[Row]:
        """The attempts that were lost with their workers."""
        return [row for rows in self.executions.values() for row in rows if row["status"] == "lost"]

    def rescues(self, deeds: Sequence[Deed]) -> list[Rescue | None]:
        """How each lost attempt was found; None where nobody killed its worker."""
        return [_rescue(row, deeds) for row in self.lost()]


@dataclass(frozen=True)
class Rescue:
    """A job that was taken from a dead worker; a restart of the database gives every worker another quarter minute."""

    seconds: float
    waited_for_database: bool


def _rescue(lost: Row, deeds: Sequence[Deed]) -> Rescue | None:
    node = lost["worker"].partition("@")[0]
    during = [deed for deed in deeds if lost["started_at"] <= deed.ended and deed.began <= lost["finished_at"]]
    hits = [deed for deed in during if deed.node == node]
    # A whole worker takes all along; of killed children not each was the one, and the latest is the likeliest.
    whole = [deed for deed in hits if deed.name in {WORKER_KILLED, WORKER_STOPPED}]
    causes = whole[:1] or [deed for deed in hits if deed.name == CHILD_KILLED][-1:]
    if not causes:
        return None
    since = causes[0].began
    restarted = any(deed.name in {DATABASE_RESTARTED, DATABASE_KILLED} and deed.ended >= since for deed in during)
    return Rescue((lost["finished_at"] - since).total_seconds(), restarted)


def _by_job(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["job_id"]].append(row)
    return found
