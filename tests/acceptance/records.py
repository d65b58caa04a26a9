"""What the database says, asked past the platform."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import psycopg2
from psycopg2.extras import RealDictCursor


class Records:
    """Rows of the platform's database; a connection for each question, for the server may have been restarted."""

    def __init__(self, url: str) -> None:
        self._url = url

    def rows(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """The rows of a statement, or none where it gives none."""
        connection = psycopg2.connect(self._url)
        try:
            with connection, connection.cursor(cursor_factory=RealDictCursor) as cursor:
                cursor.execute(statement, parameters)
                return [dict(row) for row in cursor.fetchall()] if cursor.description else []
        finally:
            connection.close()

    def job(self, job_id: str) -> dict[str, Any]:
        """The row of a job."""
        return self.rows("SELECT * FROM jobs WHERE id = %s", job_id)[0]

    def statuses(self, job_ids: Sequence[str]) -> Counter[str]:
        """How many of these jobs have each status."""
        rows = self.rows("SELECT status, count(*) FROM jobs WHERE id = ANY(%s::uuid[]) GROUP BY 1", list(job_ids))
        return Counter({row["status"]: row["count"] for row in rows})

    def executions(self, job_id: str) -> list[tuple[int, str]]:
        """The finished attempts of a job: number and status."""
        rows = self.rows("SELECT attempt, status FROM job_executions WHERE job_id = %s ORDER BY attempt, id", job_id)
        return [(row["attempt"], row["status"]) for row in rows]

    def not_finished_once(self, job_ids: Sequence[str]) -> list[dict[str, Any]]:
        """The jobs that are not completed by exactly one attempt, announced once; none when all is well.

        Looks at the final status, the attempts on record, the inbox and the webhook deliveries.
        """
        return self.rows(
            """
            SELECT job.id, job.status, job.attempt, ends.endings, inbox.notifications, outbox.undelivered
            FROM unnest(%s::uuid[]) AS wanted(id) LEFT JOIN jobs AS job ON job.id = wanted.id,
            LATERAL (SELECT count(*) AS endings FROM job_executions
                WHERE job_id = wanted.id AND status IN ('completed', 'failed', 'cancelled')) AS ends,
            LATERAL (SELECT count(*) AS notifications FROM notifications
                WHERE data->>'jobId' = wanted.id::text AND type = 'job_completed') AS inbox,
            LATERAL (SELECT count(*) AS undelivered FROM webhook_deliveries
                WHERE job_id = wanted.id AND status <> 'delivered') AS outbox
            WHERE job.status IS DISTINCT FROM 'completed' OR ends.endings <> 1 OR inbox.notifications <> 1
                OR outbox.undelivered <> 0
            """,
            list(job_ids),
        )
