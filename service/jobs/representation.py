"""A job, an attempt and a log line as the contract writes them in JSON."""

from __future__ import annotations

from typing import Any

from service.clock import isoformat
from service.events import JobRow
from service.jobs.limits import Rate
from service.jobs.waiting import place


def job_json(row: JobRow) -> dict[str, Any]:
    """The job as clients see it, from a row with parsed JSON columns (absent ones are null)."""
    return {
        "id": str(row["id"]),
        "type": row["type"],
        "name": row["name"],
        "status": row["status"],
        "priority": row["priority"],
        "queue": row["queue"],
        "attempt": row["attempt"],
        "maxAttempts": allowed_attempts(row),
        "progress": row.get("progress"),
        # Of a sensitive job only the owner reads it, by asking for that job.
        "result": None if row["sensitive"] else row.get("result"),
        "error": row.get("error"),
        "tags": row["tags"],
        "uniqueKey": row["unique_key"],
        "scheduleId": _id(row["schedule_id"]),
        "workflowId": _id(row["workflow_id"]),
        "parentId": _id(row["parent_id"]),
        "createdAt": isoformat(row["created_at"]),
        "scheduledAt": isoformat(row["scheduled_at"]),
        "startedAt": isoformat(row["started_at"]),
        "completedAt": isoformat(row["completed_at"]),
        "nextAttemptAt": isoformat(row["next_attempt_at"]) if row["status"] == "retrying" else None,
        "cancelReason": row["cancel_reason"],
        "sensitive": row["sensitive"],
        **place(row),
        "version": row["version"],
    }


def _id(value: object | None) -> str | None:
    return None if value is None else str(value)


def allowed_attempts(row: JobRow) -> int:
    """How often the job may start: an attempt lost with its worker is not the job's fault and does not count."""
    return int(row["max_attempts"] + row["rescues"])


def rate_json(rate: Rate | None) -> dict[str, Any] | None:
    """How often jobs may start."""
    return None if rate is None else {"limit": rate.limit, "period": rate.period, "kind": rate.kind}


def execution_json(row: JobRow) -> dict[str, Any]:
    """One attempt, for its owner: the traceback is for operators and added by the caller."""
    return {
        "id": str(row["id"]),
        "attempt": row["attempt"],
        "status": row["status"],
        "worker": row["worker"],
        "error": row["error"],
        "startedAt": isoformat(row["started_at"]),
        "finishedAt": isoformat(row["finished_at"]),
        "durationMs": round((row["finished_at"] - row["started_at"]).total_seconds() * 1000, 3),
    }


def log_json(row: JobRow) -> dict[str, Any]:
    """One line of a job's log."""
    return {
        "id": str(row["id"]),
        "attempt": row["attempt"],
        "level": row["level"],
        "message": row["message"],
        "createdAt": isoformat(row["created_at"]),
    }
