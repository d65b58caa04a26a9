"""What SQL and the broker have of the machine's jobs, and the clocks that are moved instead of waiting."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from service.database import fetch_all, transaction
from service.queue import celery_app, job_and_attempt

QUEUE = "default"

JOBS = """
SELECT id::text, user_id::text, organization_id::text, type, status, attempt, max_attempts, rescues, version, priority,
    (payload ->> 'steps')::int AS payload, result::text AS result, error ->> 'code' AS error, concurrency_key,
    completed_at IS NOT NULL AS has_ended, lease_expires_at IS NOT NULL AS has_lease, waiting_for, has_dependents,
    cancel_requested_at IS NOT NULL AS cancel_asked, discarded_at IS NOT NULL AS discarded, parked_on, unique_id::text,
    ref, workflow_id::text, status = 'queued' AND dispatched_at IS NOT NULL AS sent, unique_held,
    unique_held AND (status = ANY(unique_states) OR coalesce(unique_until > clock_timestamp(), false)) AS holds,
    extract(epoch FROM next_attempt_at - clock_timestamp())::float AS due_in,
    extract(epoch FROM expires_at - clock_timestamp())::float AS expires_in
FROM jobs WHERE user_id = ANY(%(users)s::uuid[])
"""
SENT = """
SELECT id::text FROM jobs
WHERE user_id = ANY(%(users)s::uuid[]) AND status = 'queued' AND dispatched_at IS NOT NULL
"""
EXECUTIONS = """
SELECT job_id::text, job_executions.attempt, job_executions.status
FROM job_executions JOIN jobs ON jobs.id = job_id
WHERE user_id = ANY(%(users)s::uuid[]) ORDER BY job_executions.attempt, job_executions.id
"""
EDGES = """
SELECT job_id::text, edge.parent_id::text, edge.settled FROM job_dependencies AS edge JOIN jobs ON jobs.id = job_id
WHERE user_id = ANY(%(users)s::uuid[])
"""
NOTIFICATIONS = """
SELECT data ->> 'jobId' AS job_id, type, count(*) AS number FROM notifications
WHERE user_id = ANY(%(users)s::uuid[]) GROUP BY 1, 2
"""
DELIVERIES = """
SELECT job_id::text, event_type AS type, count(*) AS number FROM webhook_deliveries
WHERE user_id = ANY(%(users)s::uuid[]) GROUP BY 1, 2
"""
WORKFLOWS = "SELECT id::text, status FROM workflows WHERE user_id = ANY(%(users)s::uuid[])"


@dataclass
class Record:
    """A job as SQL has it, with all that belongs to it."""

    columns: dict[str, Any]
    executions: list[tuple[int, str]] = field(default_factory=list)
    # Whether the end of each parent has been dealt with.
    edges: dict[str, bool] = field(default_factory=dict)
    notifications: Counter[str] = field(default_factory=Counter)
    deliveries: Counter[str] = field(default_factory=Counter)

    def __getitem__(self, column: str) -> Any:
        return self.columns[column]


class Records:
    """The rows of some users."""

    def __init__(self, users: Sequence[UUID]) -> None:
        self._parameters = {"users": "{" + ",".join(map(str, users)) + "}"}

    def read(self) -> dict[str, Record]:
        """All their jobs by id."""
        with transaction():
            records = {row["id"]: Record(dict(row)) for row in self._all(JOBS)}
            for row in self._all(EXECUTIONS):
                records[row["job_id"]].executions.append((row["attempt"], row["status"]))
            for row in self._all(EDGES):
                records[row["job_id"]].edges[row["parent_id"]] = row["settled"]
            # Here an unknown job is somebody's to notice.
            news: dict[str, Record] = defaultdict(lambda: Record({}), records)
            for row in self._all(NOTIFICATIONS):
                news[row["job_id"]].notifications[row["type"]] = row["number"]
            for row in self._all(DELIVERIES):
                news[row["job_id"]].deliveries[row["type"]] = row["number"]
        assert set(news) == set(records), "told of a job that is not there"
        return records

    def sent(self) -> set[str]:
        """The ids of the jobs whose message has been sent, as far as SQL knows."""
        with transaction():
            return {row["id"] for row in self._all(SENT)}

    def workflows(self) -> dict[str, str]:
        """The statuses of their workflows by id."""
        with transaction():
            return {row["id"]: row["status"] for row in self._all(WORKFLOWS)}

    def pass_time(self, seconds: int) -> None:
        """Have everything that bears a date have happened, and be due, so much earlier."""
        with transaction():
            self._all(
                """
                UPDATE jobs SET next_attempt_at = next_attempt_at - earlier.by,
                    expires_at = expires_at - earlier.by, scheduled_at = scheduled_at - earlier.by,
                    unique_until = unique_until - earlier.by, dispatched_at = dispatched_at - earlier.by,
                    created_at = created_at - earlier.by
                FROM (SELECT make_interval(secs => %(seconds)s) AS by) AS earlier
                WHERE user_id = ANY(%(users)s::uuid[])
                """,
                seconds=seconds,
            )
            self._all(
                "UPDATE queues SET drain_before = drain_before - make_interval(secs => %(seconds)s)", seconds=seconds
            )

    def let_messages_be_overdue(self) -> None:
        """Have every message been sent long ago, one after the other: of some sent at once any could be the oldest."""
        with transaction():
            self._all(
                """
                UPDATE jobs SET dispatched_at = clock_timestamp() - interval '1 h' + place * interval '1 s'
                FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM jobs
                    WHERE user_id = ANY(%(users)s::uuid[]) AND dispatched_at IS NOT NULL) AS sent
                WHERE jobs.id = sent.id
                """
            )

    def _all(self, statement: str, **more: Any) -> Sequence[Any]:
        return fetch_all(statement, {**self._parameters, **more})

    def clear(self) -> None:
        """Have nothing of them."""
        with transaction():
            for table in ("notifications", "webhook_deliveries"):
                self._all(f"DELETE FROM {table} WHERE user_id = ANY(%(users)s::uuid[])")
            self._all(
                """
                DELETE FROM job_executions USING jobs
                WHERE jobs.id = job_id AND user_id = ANY(%(users)s::uuid[])
                """
            )
            for table in ("jobs", "workflows"):
                self._all(f"DELETE FROM {table} WHERE user_id = ANY(%(users)s::uuid[])")


def set_due(job_id: str, seconds: int) -> None:
    """Have a job be due in so many seconds: delays before a retry are not exact."""
    with transaction():
        fetch_all(
            """
            UPDATE jobs SET next_attempt_at = clock_timestamp() + make_interval(secs => %(seconds)s)
            WHERE id = %(id)s
            """,
            {"id": job_id, "seconds": seconds},
        )


def end_lease(job_id: str, seconds_ago: int) -> None:
    """Have nobody have renewed a lease."""
    with transaction():
        fetch_all(
            """
            UPDATE jobs SET lease_expires_at = clock_timestamp() - make_interval(secs => %(seconds)s)
            WHERE id = %(id)s
            """,
            {"id": job_id, "seconds": seconds_ago},
        )


@contextmanager
def dying_after_commit(dies: bool) -> Iterator[None]:
    """Have the process die, where it `dies`, between a commit and what was to follow it."""
    if not dies:
        yield
        return
    with transaction() as session:
        yield
        session.info["after_commit"].clear()


class Broker:
    """The broker's queue of jobs, on one connection."""

    def __init__(self) -> None:
        self._connection = celery_app.connection_for_write()
        self._channel = self._connection.default_channel

    def close(self) -> None:
        """Leave the broker."""
        self._connection.release()

    def depth(self) -> int:
        """How many messages wait."""
        return int(self._channel.queue_declare(queue=QUEUE).message_count)

    def receive_all(self) -> list[tuple[str, int]]:
        """The jobs and the attempts of all messages, which are the receiver's from now on."""
        received = []
        while (message := self._channel.basic_get(QUEUE, no_ack=True)) is not None:
            job_id, attempt = job_and_attempt(message.headers["id"])
            assert message.payload[:2] == [[str(job_id)], {}], "a message carries the id and nothing else"
            received.append((str(job_id), attempt))
        return received

    def purge(self) -> None:
        """Lose all messages."""
        self._channel.queue_purge(QUEUE)
