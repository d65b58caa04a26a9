"""Groups of dead letters as the contract writes them in JSON."""

from __future__ import annotations

from typing import Any

from service.clock import isoformat


def group_json(row: Any, message: str | None) -> dict[str, Any]:
    """A group, from its aggregate and the message of its newest."""
    return {
        "fingerprint": row.fingerprint,
        "type": row.type,
        "code": row.code,
        "message": message,
        "count": row.jobs,
        "firstAt": isoformat(row.first_at),
        "lastAt": isoformat(row.last_at),
        "jobIds": [str(job_id) for job_id in row.newest],
    }
