"""Jobs and endpoints as the clients of S0 and S4 know them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from service.clock import isoformat
from service.compat.words import PHASE_OF, STAGE_OF, STATE_OF
from service.events import JobRow
from service.jobs.states import ACTIVE, CANCELLED, COMPLETED
from service.jobs.waiting import place


def listed_job(row: JobRow) -> dict[str, Any]:
    """A job in S0's list; its times are milliseconds since 1970, as its queue told them."""
    return {
        "id": str(row["id"]),
        "name": row["name"],
        "state": STATE_OF[row["status"]],
        "progress": _percentage(row),
        "timestamp": {
            "created": _milliseconds(row["created_at"]),
            "started": _milliseconds(row["started_at"]),
            "finished": _milliseconds(row["completed_at"]),
        },
    }


def polled_job(row: JobRow) -> dict[str, Any]:
    """A job as S0's clients poll it."""
    return {**listed_job(row), "result": row["result"], "failedReason": _failed_reason(row)}


def analysis_job(row: JobRow) -> dict[str, Any]:
    """A job as S4's clients poll it, in the words of its `queue-update`."""
    phase = PHASE_OF[row["status"]]
    return {
        "jobId": str(row["id"]),
        "jobType": row["type"],
        "userId": str(row["user_id"]),
        "status": phase,
        "progress": _percentage(row),
        "stage": _message(row) or STAGE_OF[phase],
        "result": row["result"],
        "error": _error(row),
        "reason": row["cancel_reason"],
        **place(row),
        "createdAt": isoformat(row["created_at"]),
        "startedAt": isoformat(row["started_at"]),
        "completedAt": isoformat(row["completed_at"]),
    }


# What S0 knows of an endpoint, but for its owner.
_WEBHOOK_FIELDS = ("id", "url", "eventType", "description", "active", "createdAt", "updatedAt")


def older_webhook(webhook: Mapping[str, Any], user_id: object) -> dict[str, Any]:
    """An endpoint of a user as S0's clients know it, from its JSON."""
    return {**{name: webhook[name] for name in _WEBHOOK_FIELDS}, "userId": str(user_id)}


def older_pagination(pagination: Mapping[str, Any]) -> dict[str, Any]:
    """Where a page lies in its list, in S0's words."""
    words = {"total": "total", "page": "page", "limit": "limit", "totalPages": "pages"}
    told = {word: pagination[name] for name, word in words.items()}
    return told | ({"totalIsEstimate": True} if pagination.get("totalIsEstimate") else {})


def _percentage(row: JobRow) -> float:
    """How far a job has come as one number, 0 to 100."""
    if row["status"] == COMPLETED:
        return 100
    progress = row["progress"]
    return float(progress["percentage"]) if progress else 0


def _message(row: JobRow) -> str | None:
    """What a running job last said of itself."""
    progress = row["progress"] if row["status"] == ACTIVE else None
    return progress.get("message") if progress else None


def _failed_reason(row: JobRow) -> str | None:
    if row["status"] == CANCELLED:
        return row["cancel_reason"] or STAGE_OF["cancelled"]
    error = row["error"]
    return error["message"] if error else None


def _error(row: JobRow) -> dict[str, str] | None:
    error = row["error"]
    return {"message": error["message"], "code": error["code"]} if error else None


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)
